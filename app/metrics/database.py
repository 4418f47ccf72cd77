"""Metrics of the database server, read from its statistics by a job: sizes, dead rows, connections, transactions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.metrics.external_gauges import Values, record_external_gauges
from app.metrics.registry import external_counter, external_gauge

_TTL = timedelta(minutes=10)  # of values that a job reads every minute
MAX_TABLES = 100  # the largest; Parley has about 30
CONNECTION_STATES = ("active", "idle", "idle_in_transaction", "other")

DB_SIZE_BYTES = external_gauge("db_size_bytes", "Size of the database on disk.")
DB_TABLE_SIZE_BYTES = external_gauge(
    "db_table_size_bytes", "Size of a table, with its TOAST data and without its indexes.", ("table",)
)
DB_TABLE_INDEXES_SIZE_BYTES = external_gauge(
    "db_table_indexes_size_bytes", "Size of all indexes of a table.", ("table",)
)
DB_TABLE_ROWS = external_gauge(
    "db_table_rows", "Rows of a table by state, as estimated by PostgreSQL.", ("table", "state")
)
DB_CONNECTIONS = external_gauge("db_connections", "Connections to the database from all clients, by state.", ("state",))
DB_CONNECTIONS_MAX = external_gauge("db_connections_max", "Most connections that the server accepts (max_connections).")
DB_OLDEST_TRANSACTION = external_gauge(
    "db_oldest_transaction_seconds", "Age of the oldest open transaction in the database; 0 if there is none."
)
DB_TRANSACTION_IDS_USED_RATIO = external_gauge(
    "db_transaction_ids_used_ratio", "Share of the transaction ids that is used; at 1, PostgreSQL refuses writes."
)
DB_BLOCK_READS = external_counter("db_block_reads_total", "Blocks read, from the cache or from the disk.", ("source",))
DB_DEADLOCKS = external_counter("db_deadlocks_total", "Deadlocks in the database.")
DB_TRANSACTIONS = external_counter("db_transactions_total", "Transactions that ended in the database.", ("outcome",))
DISK_FREE_BYTES = external_gauge("disk_free_bytes", "Free space on a disk that Parley writes to.", ("place",))
DISK_SIZE_BYTES = external_gauge("disk_size_bytes", "Size of a disk that Parley writes to.", ("place",))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMeasures:
    """One table: sizes in bytes, rows as PostgreSQL estimates them."""

    bytes: int
    index_bytes: int
    live_rows: int
    dead_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseMeasures:
    """The state of a database. `connections` has all `CONNECTION_STATES`; counters count since their last reset."""

    bytes: int
    tables: Mapping[str, TableMeasures]
    connections: Mapping[str, int]
    max_connections: int
    oldest_transaction_seconds: float
    transaction_ids_used: float
    blocks_from_cache: int
    blocks_from_disk: int
    deadlocks: int
    committed: int
    rolled_back: int


def record_database(measures: DatabaseMeasures) -> None:
    """Record the state of the database, with the `MAX_TABLES` largest tables."""
    largest = sorted(measures.tables.items(), key=lambda item: -item[1].bytes - item[1].index_bytes)[:MAX_TABLES]
    values: Values = {
        DB_SIZE_BYTES: {(): measures.bytes},
        DB_TABLE_SIZE_BYTES: {(name,): table.bytes for name, table in largest},
        DB_TABLE_INDEXES_SIZE_BYTES: {(name,): table.index_bytes for name, table in largest},
        DB_TABLE_ROWS: {
            (name, state): rows
            for name, table in largest
            for state, rows in (("live", table.live_rows), ("dead", table.dead_rows))
        },
        DB_CONNECTIONS: {(state,): measures.connections.get(state, 0) for state in CONNECTION_STATES},
        DB_CONNECTIONS_MAX: {(): measures.max_connections},
        DB_OLDEST_TRANSACTION: {(): measures.oldest_transaction_seconds},
        DB_TRANSACTION_IDS_USED_RATIO: {(): measures.transaction_ids_used},
        DB_BLOCK_READS: {("cache",): measures.blocks_from_cache, ("disk",): measures.blocks_from_disk},
        DB_DEADLOCKS: {(): measures.deadlocks},
        DB_TRANSACTIONS: {("committed",): measures.committed, ("rolled_back",): measures.rolled_back},
    }
    record_external_gauges("database", values, ttl=_TTL)


def record_disks(places: Mapping[str, tuple[int, int]]) -> None:
    """Record the free and total bytes of the disk at each place, such as `home`."""
    values: Values = {
        DISK_FREE_BYTES: {(place,): free for place, (free, _) in places.items()},
        DISK_SIZE_BYTES: {(place,): size for place, (_, size) in places.items()},
    }
    record_external_gauges("disks", values, ttl=_TTL)
