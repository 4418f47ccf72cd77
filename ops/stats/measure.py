"""The job that reads the statistics of the database and the free disk space for the metrics, once a minute."""

from dataclasses import dataclass

from sqlalchemy import Connection

from app.container import current_settings, provider_services
from app.database import direct_connection
from app.metrics.database import DatabaseMeasures, TableMeasures, record_database, record_disks
from app.repositories.statement import Statement
from app.services.storage_room import KEY
from app.storage.disks import disk_usage
from ops.stats.counters import TABLE_SIZES

TABLE_ROWS = Statement(
    "ops.table_rows",
    "SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables"
    " WHERE pg_table_is_visible(relid)",
)
DATABASE = Statement(
    "ops.database_statistics",
    """
SELECT pg_database_size(d.oid) AS bytes, current_setting('max_connections')::int AS max_connections,
       age(d.datfrozenxid) / 2147483648.0 AS transaction_ids_used, s.blks_hit, s.blks_read, s.deadlocks,
       s.xact_commit, s.xact_rollback
  FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid
 WHERE d.datname = current_database()""",
)
# Other roles' sessions have no state without the privilege pg_read_all_stats: they count as "other".
SESSIONS = Statement(
    "ops.session_states",
    """
SELECT CASE WHEN state IN ('active', 'idle') THEN state
            WHEN state LIKE 'idle in transaction%%' THEN 'idle_in_transaction' ELSE 'other' END AS state,
       count(*) AS connections,
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) FILTER (WHERE pid <> pg_backend_pid()), 0)
           AS oldest_seconds
  FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
 GROUP BY 1""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureReport:
    """The measured values: sizes in bytes, the age of the oldest open transaction in seconds."""

    database_bytes: int
    tables: int
    connections: int
    oldest_transaction_seconds: float
    home_free_bytes: int


def measure() -> MeasureReport:
    """Read the statistics of the database and of the disk of PARLEY_HOME, and record them as metrics."""
    with direct_connection() as connection:
        measures = read_measures(connection)
    record_database(measures)
    provider_services().runtime.put(KEY, {"database_bytes": measures.bytes}, None)  # for DATABASE_MAX_BYTES
    usage = disk_usage(current_settings().server.home)
    record_disks({"home": (usage.free, usage.total)})
    return MeasureReport(
        database_bytes=measures.bytes,
        tables=len(measures.tables),
        connections=sum(measures.connections.values()),
        oldest_transaction_seconds=round(measures.oldest_transaction_seconds, 1),
        home_free_bytes=usage.free,
    )


def read_measures(connection: Connection) -> DatabaseMeasures:
    """Read the state of the database from its statistics views."""
    rows = {row.name: row for row in TABLE_ROWS.all(connection, {})}
    sessions = SESSIONS.all(connection, {})
    database = DATABASE.one(connection, {})
    assert database is not None  # noqa: S101  # the database that runs the statement has a row
    return DatabaseMeasures(
        bytes=database.bytes,
        tables={
            table.name: TableMeasures(
                bytes=table.bytes,
                index_bytes=table.index_bytes,
                live_rows=rows[table.name].live,
                dead_rows=rows[table.name].dead,
            )
            for table in TABLE_SIZES.all(connection, {})
            if table.name in rows
        },
        connections={session.state: session.connections for session in sessions},
        max_connections=database.max_connections,
        oldest_transaction_seconds=float(max((session.oldest_seconds for session in sessions), default=0)),
        transaction_ids_used=float(database.transaction_ids_used),
        blocks_from_cache=database.blks_hit,
        blocks_from_disk=database.blks_read,
        deadlocks=database.deadlocks,
        committed=database.xact_commit,
        rolled_back=database.xact_rollback,
    )
