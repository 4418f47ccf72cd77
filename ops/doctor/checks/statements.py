"""Slow statements, by their names in Parley's code."""

from collections.abc import Iterator
from datetime import timedelta

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level
from ops.stats.slow import is_own, slow_statements

WINDOW = timedelta(days=1)
MIN_CALLS = 20  # within the window; the average of fewer is not meaningful
SLOW_MS, VERY_SLOW_MS = 100.0, 1000.0  # on average
# Maintenance processes many rows per statement, and no user waits for it.
MAINTENANCE = ("maintenance.", "job_runs.", "archive", "backup", "search.")
MAINTENANCE_SLOW_MS = 5000.0


@check("statements.slow", "Are any of Parley's statements slow?", severity=Level.CRITICAL)
def find_slow_statements(context: CheckContext) -> Iterator[Finding]:
    """Find statements with a high average time within the last day, or since the statistics began."""
    now = context.now
    report = slow_statements(context.connection, since=now - WINDOW, until=now)
    for statement in report.statements:
        is_maintenance = statement.name.startswith(MAINTENANCE)
        limit = MAINTENANCE_SLOW_MS if is_maintenance else SLOW_MS
        if not is_own(statement) or statement.calls < MIN_CALLS or statement.mean_ms < limit:
            continue
        yield Finding(
            level=Level.CRITICAL if statement.mean_ms >= VERY_SLOW_MS and not is_maintenance else Level.WARNING,
            message=f"{statement.name} takes {statement.mean_ms:.0f} ms on average, in {statement.calls:,} calls.",
            object=statement.name,
            evidence={
                "since": report.since,
                "mean_ms": statement.mean_ms,
                "max_ms": statement.max_ms,
                "calls": statement.calls,
                "share_of_all_time": statement.share,
            },
            remedy="Is an index missing (flask ops doctor --only indexes), or does it wait (flask ops locks)?",
        )
