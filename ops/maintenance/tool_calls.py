"""Purge of the recorded calls of tools. Afterwards, a new attempt at their turn would make them again."""

from app.repositories.maintenance import COUNT_OLD_TOOL_CALLS, PURGE_TOOL_CALLS
from ops.runs.batches import PurgeReport, TimeBudget, count, purge


def purge_tool_calls(
    *, keep_days: int, batch: int = 1000, seconds: float | None = None, dry_run: bool = False
) -> PurgeReport:
    """Delete calls that were recorded more than `keep_days` ago. `seconds` limits the run."""
    parameters = {"keep": keep_days}
    if dry_run:
        return PurgeReport(count(COUNT_OLD_TOOL_CALLS, parameters), dry_run=True)
    return purge(PURGE_TOOL_CALLS, parameters, batch=batch, budget=TimeBudget(seconds))
