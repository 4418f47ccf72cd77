"""The index scans of the replica in DATABASE_REPLICA_URL, which the primary's statistics do not include.

A physical replica has the same oids as its primary, so indexes are matched by oid.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, NullPool
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit, driver_message, engine_options, make_engine
from app.repositories.statement import Statement
from ops.checks.context import STATEMENT_TIMEOUT, CheckContext
from ops.checks.read_only import make_read_only
from ops.checks.statistics_age import counting_since
from ops.errors import UnknownState
from ops.indexes.snapshot import Index, IndexSnapshot

IDENTITY = Statement(
    "ops.replica_identity",
    """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, oid::int8 AS oid,
       pg_is_in_recovery() AS is_replica
  FROM pg_database WHERE datname = current_database()""",
)
SCANS_15 = Statement(
    "ops.replica_scans", "SELECT indexrelid::int8 AS oid, idx_scan AS scans, NULL AS last FROM pg_stat_all_indexes"
)
SCANS = Statement(
    "ops.replica_scans",
    "SELECT indexrelid::int8 AS oid, idx_scan AS scans, last_idx_scan AS last FROM pg_stat_all_indexes",
)


def with_replica_scans(context: CheckContext, snapshot: IndexSnapshot, url: str) -> tuple[IndexSnapshot, datetime]:
    """Add the replica's scans to `snapshot`. Returns it with the start of the replica's statistics.

    Raises `UnknownState` if the replica cannot be reached, or belongs to another database.
    """
    try:
        with _connected(context, url) as connection:
            replica = CheckContext(context.settings, connection)
            _require_replica_of(context, replica)
            statement = SCANS_15 if replica.version < 16 else SCANS
            counts = {row.oid: row for row in statement.all(connection, {})}
            since = counting_since(replica)
    except SQLAlchemyError as error:
        raise UnknownState(
            f"The replica of DATABASE_REPLICA_URL cannot be reached: {driver_message(error).rstrip('.?')}.",
            remedy="Start it, or correct DATABASE_REPLICA_URL",
        ) from error
    indexes = []
    for index in snapshot.indexes:
        row = counts.get(index.oid)
        scans, last = (row.scans or 0, row.last) if row is not None else (0, None)
        lasts = [moment for moment in (index.last_scan, last) if moment is not None]
        indexes.append(replace(index, scans=index.scans + scans, last_scan=max(lasts, default=None)))
    return replace(snapshot, indexes=tuple[Index, ...](indexes)), since


@contextmanager
def _connected(context: CheckContext, url: str) -> Iterator[Connection]:
    options = engine_options(context.settings.database)["connect_args"]
    engine = make_engine(url, poolclass=NullPool, connect_args=options, hide_parameters=True)
    with autocommit(engine) as connection:
        make_read_only(connection, STATEMENT_TIMEOUT)
        yield connection


def _require_replica_of(context: CheckContext, replica: CheckContext) -> None:
    (primary_row,), (row,) = IDENTITY.all(context.connection, {}), IDENTITY.all(replica.connection, {})
    if (row.system, row.oid) != (primary_row.system, primary_row.oid) or not row.is_replica:
        is_primary = not row.is_replica and row.system == primary_row.system
        raise UnknownState(
            f"DATABASE_REPLICA_URL names {'the primary itself' if is_primary else 'another database'}, so the replica's"
            " scans are unknown.",
            remedy="Correct DATABASE_REPLICA_URL",
        )
