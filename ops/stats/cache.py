"""The counters of PostgreSQL's buffer cache."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from app.repositories.statement import Statement

BLOCKS = Statement(
    "ops.cache",
    """
SELECT coalesce(sum(heap_blks_hit), 0)::bigint AS table_hits, coalesce(sum(heap_blks_read), 0)::bigint AS table_reads,
       coalesce(sum(idx_blks_hit), 0)::bigint AS index_hits, coalesce(sum(idx_blks_read), 0)::bigint AS index_reads,
       (SELECT setting::bigint * 8192 FROM pg_settings WHERE name = 'shared_buffers') AS memory,
       pg_database_size(current_database()) AS bytes,
       coalesce((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
                pg_postmaster_start_time()) AS since
  FROM pg_statio_user_tables""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounters:
    """Blocks of tables and indexes that were found in the cache, and that were read into it.

    Two records can be subtracted if `since` is the same: counters begin again after a reset, and after a crash.
    """

    since: datetime
    table_hits: int = 0
    table_reads: int = 0
    index_hits: int = 0
    index_reads: int = 0
    shared_buffers_bytes: int = 0
    database_bytes: int = 0


def read_cache(connection: Connection) -> CacheCounters:
    """Read the counters of this database."""
    (row,) = BLOCKS.all(connection, {})
    return CacheCounters(
        since=row.since,
        table_hits=row.table_hits,
        table_reads=row.table_reads,
        index_hits=row.index_hits,
        index_reads=row.index_reads,
        shared_buffers_bytes=row.memory,
        database_bytes=row.bytes,
    )
