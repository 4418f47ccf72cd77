"""PostgreSQL's buffer cache, over the time since an earlier record of its counters."""

from collections.abc import Iterator
from datetime import timedelta

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.statistics_age import counting_since
from ops.errors import UnknownState
from ops.levels import Level
from ops.stats.cache import CacheCounters, read_cache
from ops.stats.record import recorded_stats

MIN_HIT_RATIO = 0.99
MIN_READS = 100_000  # blocks read into the cache (800 MB); with fewer, the ratio does not matter
WINDOW = timedelta(days=1)


@check("tables.cache", "Is the buffer cache hit ratio high enough?", severity=Level.WARNING)
def cache(context: CheckContext) -> Iterator[Finding]:
    """Compare the hit ratios of tables and indexes within the last day with `MIN_HIT_RATIO`.

    A miss may still be served by the operating system's cache. Raises `UnknownState` if there is no earlier record.
    """
    since, present = counting_since(context), read_cache(context.connection)
    if max(present.table_reads, present.index_reads) < MIN_READS:
        return
    before = recorded_stats(context.connection, context.now - WINDOW)
    counters = None if before is None else before.cache
    if counters is None or before is None:
        raise UnknownState(
            "The hit ratio of the last day is unknown: no counters were recorded before.",
            remedy="flask ops jobs run stats.record, and check again after an hour; the beat records them every hour",
        )
    if present.since != counters.since:  # reset since then: all present counts are newer
        counters, begin = CacheCounters(since=present.since), since
    else:
        begin = before.at
    for kind, hits, reads in (
        ("tables", present.table_hits - counters.table_hits, present.table_reads - counters.table_reads),
        ("indexes", present.index_hits - counters.index_hits, present.index_reads - counters.index_reads),
    ):
        if reads >= MIN_READS and hits < MIN_HIT_RATIO * (hits + reads):
            yield Finding(
                level=Level.WARNING,
                message=f"PostgreSQL finds {hits / (hits + reads):.1%} of the blocks of {kind} in its buffer cache.",
                object=kind,
                evidence={
                    "hits": hits,
                    "reads": reads,
                    "shared_buffers_bytes": present.shared_buffers_bytes,
                    "database_bytes": present.database_bytes,
                    "since": begin,
                },
                remedy="Which statements read most (flask ops slow), and does an index help them? Else raise"
                " shared_buffers",
            )
