"""What must be so before a plan is applied, and still be so before each of its steps begins."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from app.errors import InvalidInput
from app.repositories.statement import Statement
from ops.checks.indexes.steps import Step
from ops.checks.probe import Probe
from ops.findings import CannotJudge
from ops.indexes.planning import Plan, where
from ops.words import size, span

PLAN_LIFE = timedelta(days=7)
CLOCK = timedelta(minutes=5)  # by which a plan may come from the future
OLD_TRANSACTION = timedelta(minutes=5)
DISK_FACTOR = 2  # times what a build takes
_SAME_START = 60.0  # seconds between what the server says of its start and what its file says

TRANSACTIONS = Statement(
    "ops.old_transactions",
    """
SELECT 'session ' || pid AS who, coalesce(state, '') AS state, now() - xact_start AS age,
       usename AS role, query = '<insufficient privilege>' AS is_hidden
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> ALL (%(ours)s)
   AND coalesce(backend_type, 'client backend') = 'client backend'
   AND (xact_start < now() - %(old)s OR query = '<insufficient privilege>')
UNION ALL
SELECT 'prepared transaction ' || gid, 'prepared', now() - prepared, owner, false
  FROM pg_prepared_xacts WHERE database = current_database() AND prepared < now() - %(old)s
 ORDER BY age DESC NULLS LAST""",
)
# Who may not see where the files are cannot see how much room there is for them either.
PLACE = Statement(
    "ops.data_directory",
    """
SELECT CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END AS directory,
       current_setting('port')::int AS port, extract(epoch FROM pg_postmaster_start_time())::float8 AS started,
       CASE WHEN %(tablespace)s <> 0 THEN pg_tablespace_location(%(tablespace)s::oid) ELSE '' END AS tablespace""",
)


def same_database(probe: Probe, plan: Plan) -> None:
    """Raises `InvalidInput` where `plan` is not for this database as it is, or not of these days."""
    here = where(probe)
    database, version, now = here.database, here.version, here.now
    if database != plan.database:
        raise InvalidInput(
            f"The plan is for database {plan.database.name} of server {plan.database.system}, and this is"
            f" {database.name} of server {database.system}. Make one for this database: flask ops index plan."
        )
    if version // 10_000 != plan.version // 10_000:
        raise InvalidInput("The server has another major version than when the plan was made: make a new one.")
    if now - plan.made_at > PLAN_LIFE:
        raise InvalidInput(
            f"The plan is {span(now - plan.made_at)} old, and {PLAN_LIFE.days} days are the limit: plan anew."
        )
    if plan.made_at - now > CLOCK:
        raise InvalidInput(
            f"The plan says that it was made at {plan.made_at:%Y-%m-%d %H:%M %Z}, and the database's clock says"
            f" {now:%Y-%m-%d %H:%M %Z}: one of the two is wrong. Make a new one."
        )


def quiet_hours(hours: str, now: datetime) -> bool:
    """Whether `now` (UTC) is within `hours`, such as 01-05, or 22-04 over midnight."""
    begin, end = (int(hour) for hour in hours.split("-"))
    if begin <= end:
        return begin <= now.hour < end
    return now.hour >= begin or now.hour < end


def no_old_transaction(probe: Probe, ours: list[int]) -> None:
    """Raises `CannotJudge` where a transaction has been open for longer than `OLD_TRANSACTION`: a build would wait for
    it, and everybody who wants a stronger lock behind the build. `ours` are the process ids of our own sessions.
    """
    rows = TRANSACTIONS.all(probe.connection, {"old": OLD_TRANSACTION, "ours": ours})
    for row in rows:
        if not row.is_hidden:
            raise CannotJudge(
                f"{row.who} of {row.role} has had a transaction open for {span(row.age)} ({row.state});"
                " a build would wait for its end.",
                remedy="flask ops locks, end it if you may, and apply again",
            )
    if rows:
        raise CannotJudge(
            f"Whether {rows[0].who} of {rows[0].role} has an old transaction open cannot be seen by this role.",
            remedy="As a superuser: GRANT pg_read_all_stats TO this role",
        )


def disk_suffices(probe: Probe, step: Step, assumed: int | None) -> None:
    """Raises `CannotJudge` unless `DISK_FACTOR` times what the step takes is free. `assumed` is what somebody looked up
    on the server's machine, in bytes; without that it is seen only where the server runs on this one.
    """
    if not step.disk_bytes:
        return
    free = assumed if assumed is not None else free_bytes(probe, step.tablespace)
    if free is None:
        raise CannotJudge(
            f"How much disk is free where the database runs cannot be seen from here, and the step for {step.index} may"
            f" take {size(step.disk_bytes)}.",
            remedy="Look there, and say it: --assume-disk 20GB",
        )
    if free < DISK_FACTOR * step.disk_bytes:
        raise CannotJudge(
            f"The step for {step.index} may take {size(step.disk_bytes)} of disk; twice that is to be free, and only"
            f" {size(free)} are.",
            remedy="Make room, or leave this step out of the plan",
        )


def free_bytes(probe: Probe, tablespace: int) -> int | None:
    """What is free where an index of that tablespace is built; None where that cannot be seen.

    The server's files are on this machine if they say when it began and at which port, as it says itself.
    """
    (row,) = PLACE.all(probe.connection, {"tablespace": tablespace})
    if row.directory is None:
        return None
    try:
        lines = (Path(row.directory) / "postmaster.pid").read_text().splitlines()
        here = abs(int(lines[2]) - row.started) < _SAME_START and int(lines[3]) == row.port
        return shutil.disk_usage(row.tablespace or row.directory).free if here else None
    except (OSError, ValueError, IndexError):
        return None
