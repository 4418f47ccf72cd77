"""Whether the database answers and is at the revision that this code was written for."""

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app.extensions import db

_log = logging.getLogger("parley.health")


@dataclass(frozen=True, slots=True)
class HealthReport:
    """`detail` is one sentence for an operator; it names no host and no credential."""

    ok: bool
    detail: str


@cache
def expected_revision() -> str:
    """The newest migration of this code, from `migrations/.current-head`."""
    return (Path(__file__).parents[2] / "migrations" / ".current-head").read_text().strip()


def check() -> HealthReport:
    """Ask the database for its revision; one statement. Never raises."""
    report = _check()
    if not report.ok:
        _log.warning(report.detail)
    return report


def _check() -> HealthReport:
    try:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            current = connection.execute(text("SELECT /* health.revision */ version_num FROM alembic_version")).scalar()
    except ProgrammingError:  # no such table
        current = None
    except SQLAlchemyError as error:
        return HealthReport(False, f"The database does not answer ({type(error).__name__}).")
    if current is None:
        return HealthReport(False, "The database is empty; run `flask db upgrade`.")
    if current != expected_revision():
        return HealthReport(
            False,
            f"The database is at migration {current}, this code at {expected_revision()}; "
            f"{_mend(str(current), expected_revision())}.",
        )
    return HealthReport(True, "The database answers and its migrations are current.")


def _mend(current: str, expected: str) -> str:
    """Revisions are numbered, so that their order can be told without asking Alembic."""
    return (
        "run `flask db upgrade`" if current < expected else "this server is older than its database: deploy the newer"
    )
