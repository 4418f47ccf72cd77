"""Whether the database answers and is at the revision that this code was written for."""

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

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
    try:
        with db.engine.connect() as connection:
            if connection.execute(text("SELECT to_regclass('alembic_version') IS NULL")).scalar():
                return HealthReport(False, "The database is empty; run `flask db upgrade`.")
            current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        _log.warning("the database does not answer: %s", type(error).__name__)
        return HealthReport(False, "The database does not answer.")
    if current != expected_revision():
        return HealthReport(
            False,
            f"The database is at migration {current}, this code at {expected_revision()}; run `flask db upgrade`.",
        )
    return HealthReport(True, "The database answers and its migrations are current.")
