"""Whether the database answers and is at the revision that this code was written for, and what else is well or not."""

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.database import said
from app.extensions import db
from app.jobs import job_queue

UNDEFINED_TABLE = "42P01"

_log = logging.getLogger("parley.health")


@dataclass(frozen=True, slots=True)
class HealthReport:
    """`detail` is one sentence for anybody; `why`, for operators, may name hosts and accounts. Neither has a secret."""

    ok: bool
    detail: str
    answers: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Each part is "ok" or a sentence that says what is wrong. Without a broker chat works, so it does not decide."""

    ready: bool
    parts: dict[str, str]


@cache
def expected_revision() -> str:
    """The newest migration of this code, from `migrations/.current-head`."""
    return (Path(__file__).parents[2] / "migrations" / ".current-head").read_text().strip()


def readiness() -> Readiness:
    """Ask the database and the broker. Takes a few seconds at most; never raises."""
    report = check()
    broker = job_queue().answers()
    return Readiness(
        ready=report.ok,
        parts={
            "database": "ok" if report.answers else f"{report.detail} {report.why}",
            "migrations": "ok" if report.ok else report.detail if report.answers else "Not known.",
            "broker": "Not configured." if broker is None else "ok" if broker else "Does not answer; jobs wait.",
        },
    )


def check() -> HealthReport:
    """Ask the database for its revision; one statement. Never raises."""
    report = _check()
    if not report.ok:
        _log.warning(f"{report.detail} {report.why}".rstrip())
    return report


def _check() -> HealthReport:
    try:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            current = connection.execute(text("SELECT /* health.revision */ version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        if getattr(getattr(error, "orig", None), "pgcode", None) != UNDEFINED_TABLE:
            detail = f"The database does not answer ({type(error).__name__})."
            return HealthReport(False, detail, answers=False, why=said(error))
        current = None
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
