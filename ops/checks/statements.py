"""Statements that take long, by our own names."""

from collections.abc import Iterator
from datetime import timedelta

from ops.checks.probe import Probe
from ops.figures.slow import is_ours, slow
from ops.findings import Finding
from ops.levels import Level

WINDOW = timedelta(days=1)
OFTEN = 20  # calls within it; fewer say nothing
SLOW_MS, VERY_SLOW_MS = 100.0, 1000.0  # on average
# Upkeep goes through many rows at a time, and nobody waits for it.
UPKEEP = ("care.", "job_runs.", "archive", "backup", "search.")
UPKEEP_SLOW_MS = 5000.0


def slow_ones(probe: Probe) -> Iterator[Finding]:
    """A finding for each statement that takes long on average, since a day ago or as long as that is known."""
    now = probe.now
    report = slow(probe.connection, since=now - WINDOW, until=now)
    for each in report.statements:
        upkeep = each.statement.startswith(UPKEEP)
        bound = UPKEEP_SLOW_MS if upkeep else SLOW_MS
        if not is_ours(each) or each.calls < OFTEN or each.mean_ms < bound:
            continue
        yield Finding(
            level=Level.CRITICAL if each.mean_ms >= VERY_SLOW_MS and not upkeep else Level.WARNING,
            what=f"{each.statement} takes {each.mean_ms:.0f} ms on average, in {each.calls:,} calls.",
            evidence={
                "since": report.since,
                "mean_ms": each.mean_ms,
                "longest_ms": each.longest_ms,
                "calls": each.calls,
                "share_of_all_time": each.share,
            },
            remedy="flask ops slow; flask ops doctor --only indexes says whether an index is missing",
        )
