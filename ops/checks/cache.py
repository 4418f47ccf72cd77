"""How often PostgreSQL finds in its memory what it looks for."""

from collections.abc import Iterator

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.checks.statistics_age import counting_since
from ops.findings import Finding
from ops.levels import Level

SHARE = 0.99  # of all looks
LEAST_READS = 100_000  # blocks from outside (800 MB): below that, whatever the share, nobody waits for it

BLOCKS = Statement(
    "ops.cache",
    """
SELECT coalesce(sum(heap_blks_hit), 0)::bigint AS table_hits, coalesce(sum(heap_blks_read), 0)::bigint AS table_reads,
       coalesce(sum(idx_blks_hit), 0)::bigint AS index_hits, coalesce(sum(idx_blks_read), 0)::bigint AS index_reads,
       (SELECT setting::bigint * 8192 FROM pg_settings WHERE name = 'shared_buffers') AS memory,
       pg_database_size(current_database()) AS bytes
  FROM pg_statio_user_tables""",
)


def cache(probe: Probe) -> Iterator[Finding]:
    """Tables, or indexes, that are found in memory less than 99% of the time, once that is worth a word.

    The share is that since counting began. A read from outside may still be one from the system's own cache.
    """
    since = counting_since(probe)
    (row,) = BLOCKS.all(probe.connection, {})
    for what, hits, reads in (
        ("tables", row.table_hits, row.table_reads),
        ("indexes", row.index_hits, row.index_reads),
    ):
        if reads >= LEAST_READS and hits < SHARE * (hits + reads):
            yield Finding(
                level=Level.WARNING,
                what=f"PostgreSQL finds {hits / (hits + reads):.1%} of the blocks of {what} in its memory.",
                evidence={
                    "hits": hits,
                    "reads": reads,
                    "shared_buffers_bytes": row.memory,
                    "database_bytes": row.bytes,
                    "counted_since": since,
                },
                remedy="See flask ops slow for what reads so much; then give PostgreSQL more memory (shared_buffers)",
            )
