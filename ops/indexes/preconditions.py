"""Preconditions of a plan, checked before it is applied; some are checked again before each step."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from app.errors import InvalidInput
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.errors import UnknownState
from ops.formatting import format_duration, format_size
from ops.indexes.planning import Plan, connected_database
from ops.indexes.steps import Step

PLAN_LIFE = timedelta(days=7)
CLOCK_SKEW = timedelta(minutes=5)  # between the clock of the plan and that of the database
OLD_TRANSACTION = timedelta(minutes=5)
DISK_FACTOR = 2  # times the size of a build
_SAME_START = 60.0  # seconds by which pg_postmaster_start_time and postmaster.pid may differ

TRANSACTIONS = Statement(
    "ops.old_transactions",
    """
SELECT 'session ' || pid AS holder, coalesce(state, '') AS state, now() - xact_start AS age,
       usename AS role, query = '<insufficient privilege>' AS is_hidden
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> ALL (%(own_pids)s)
   AND coalesce(backend_type, 'client backend') = 'client backend'
   AND (xact_start < now() - %(old)s OR query = '<insufficient privilege>')
UNION ALL
SELECT 'prepared transaction ' || gid, 'prepared', now() - prepared, owner, false
  FROM pg_prepared_xacts WHERE database = current_database() AND prepared < now() - %(old)s
 ORDER BY age DESC NULLS LAST""",
)
# Without pg_read_all_settings the data directory is hidden, so the free space cannot be read either.
DATA_DIRECTORY = Statement(
    "ops.data_directory",
    """
SELECT CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END AS directory,
       current_setting('port')::int AS port, extract(epoch FROM pg_postmaster_start_time())::float8 AS started,
       CASE WHEN %(tablespace)s <> 0 THEN pg_tablespace_location(%(tablespace)s::oid) ELSE '' END AS tablespace""",
)


def require_same_database(context: CheckContext, plan: Plan) -> None:
    """Raise `InvalidInput` unless `plan` is for this database and its server version, and recent enough."""
    connected = connected_database(context)
    database, version, now = connected.database, connected.version, connected.now
    if database != plan.database:
        raise InvalidInput(
            f"The plan is for database {plan.database.name} of server {plan.database.system}, and this is"
            f" {database.name} of server {database.system}. Make a plan for this database: flask ops index plan."
        )
    if version // 10_000 != plan.version // 10_000:
        raise InvalidInput("The server has another major version than when the plan was made: make a new plan.")
    if now - plan.made_at > PLAN_LIFE:
        raise InvalidInput(
            f"The plan is {format_duration(now - plan.made_at)} old; the limit is {PLAN_LIFE.days} days:"
            " make a new plan."
        )
    if plan.made_at - now > CLOCK_SKEW:
        raise InvalidInput(
            f"The plan was made at {plan.made_at:%Y-%m-%d %H:%M %Z}, and the database's clock is at"
            f" {now:%Y-%m-%d %H:%M %Z}: one of them is wrong. Make a new plan."
        )


def is_within_hours(hours: str, now: datetime) -> bool:
    """Return whether `now` (UTC) is within `hours`, such as 01-05, or 22-04 across midnight."""
    begin, end = (int(hour) for hour in hours.split("-"))
    if begin <= end:
        return begin <= now.hour < end
    return now.hour >= begin or now.hour < end


def require_no_old_transaction(context: CheckContext, own_pids: list[int]) -> None:
    """Raise `UnknownState` if a transaction has been open for longer than `OLD_TRANSACTION`.

    A build would wait for it, and requests for stronger locks would queue behind the build. The sessions in `own_pids`
    are ignored.
    """
    rows = TRANSACTIONS.all(context.connection, {"old": OLD_TRANSACTION, "own_pids": own_pids})
    for row in rows:
        if not row.is_hidden:
            raise UnknownState(
                f"{row.holder} of {row.role} has had a transaction open for {format_duration(row.age)} ({row.state});"
                " a build would wait until it ends.",
                remedy="flask ops locks; end the transaction if possible, and apply again",
            )
    if rows:
        raise UnknownState(
            f"This role cannot see whether {rows[0].holder} of {rows[0].role} has an old transaction open.",
            remedy="As a superuser: GRANT pg_read_all_stats TO this role",
        )


def require_disk_space(context: CheckContext, step: Step, assumed: int | None) -> None:
    """Raise `UnknownState` unless `DISK_FACTOR` times the disk space of the step is free.

    `assumed` is the free space in bytes, as an operator has read it on the database's host. Without it, the free space
    is known only if the server runs on this host.
    """
    if not step.disk_bytes:
        return
    free = assumed if assumed is not None else free_bytes(context, step.tablespace)
    if free is None:
        raise UnknownState(
            f"The free disk space of the database's host cannot be read from here, and the step for {step.index} may"
            f" need {format_size(step.disk_bytes)}.",
            remedy="Read it on that host and pass it: --assume-disk 20GB",
        )
    if free < DISK_FACTOR * step.disk_bytes:
        raise UnknownState(
            f"The step for {step.index} may need {format_size(step.disk_bytes)} of disk space; twice that must be free,"
            f" and only {format_size(free)} are.",
            remedy="Free disk space, or remove this step from the plan",
        )


def free_bytes(context: CheckContext, tablespace: int) -> int | None:
    """Return the free space where an index of `tablespace` is built; None if it cannot be read.

    The server runs on this host if the start time and the port in its postmaster.pid are those that it reports.
    """
    (row,) = DATA_DIRECTORY.all(context.connection, {"tablespace": tablespace})
    if row.directory is None:
        return None
    try:
        lines = (Path(row.directory) / "postmaster.pid").read_text().splitlines()
        is_local = abs(int(lines[2]) - row.started) < _SAME_START and int(lines[3]) == row.port
        return shutil.disk_usage(row.tablespace or row.directory).free if is_local else None
    except (OSError, ValueError, IndexError):
        return None
