"""Health of this installation: the database, its migrations, and the broker."""

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit, driver_message, sqlstate
from app.jobs import BrokerState, job_broker

UNDEFINED_TABLE = "42P01"

_BROKER = {
    BrokerState.OK: "ok",
    BrokerState.UNREACHABLE: "Does not answer; jobs wait.",
    BrokerState.READ_ONLY: "Answers, but refuses to be written to; jobs wait.",
}

_log = logging.getLogger("parley.health")


@dataclass(frozen=True, slots=True)
class HealthReport:
    """State of the database. `reachable` is false if it does not answer.

    `detail` is a sentence for any reader; `reason`, for operators, may name hosts and accounts. Neither has a secret.
    """

    ok: bool
    detail: str
    reachable: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Readiness, with "ok" or a sentence on the problem for each part.

    Chat works without a broker, so it has no influence on `ready`.
    """

    ready: bool
    parts: dict[str, str]


@cache
def expected_revision() -> str:
    """Return the newest migration of this code, from `migrations/.current-head`."""
    return (Path(__file__).parents[2] / "migrations" / ".current-head").read_text().strip()


def readiness() -> Readiness:
    """Check the database and the broker. Takes a few seconds at most; never raises."""
    report = check()
    broker = job_broker().check()
    return Readiness(
        ready=report.ok,
        parts={
            "database": "ok" if report.reachable else f"{report.detail} {report.reason}",
            "migrations": "ok" if report.ok else report.detail if report.reachable else "Not known.",
            "broker": _BROKER[broker.state] if broker is not None else "Not configured.",
        },
    )


def check() -> HealthReport:
    """Compare the revision of the database with the code's, by one statement. Never raises."""
    report = _check()
    if not report.ok:
        _log.warning(f"{report.detail} {report.reason}".rstrip())
    return report


def _check() -> HealthReport:
    try:
        with autocommit() as connection:
            current = connection.execute(text("SELECT /* health.revision */ version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        if sqlstate(error) != UNDEFINED_TABLE:
            detail = f"The database does not answer ({type(error).__name__})."
            return HealthReport(False, detail, reachable=False, reason=driver_message(error))
        current = None
    if current is None:
        return HealthReport(False, "The database is empty; run `flask db upgrade`.")
    if current != expected_revision():
        return HealthReport(
            False,
            f"The database is at migration {current}, this code at {expected_revision()}; "
            f"{_migration_remedy(str(current), expected_revision())}.",
        )
    return HealthReport(True, "The database answers and its migrations are current.")


def _migration_remedy(current: str, expected: str) -> str:
    """Return what to do about a different revision. Revisions are numbered, so Alembic is not needed to order them."""
    return (
        "run `flask db upgrade`" if current < expected else "this server is older than its database: deploy the newer"
    )
