"""The archival: whether it keeps up with idle conversations, and whether the bundles are intact."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories import archive_runs as runs
from ops.archive.backlog import count_backlog, late_after, lateness, read_cutoff
from ops.archive.verify import verify_with
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.levels import Level
from ops.runs.batches import TimeBudget

COUNT_SECONDS = 4.0
READ_SECONDS = 2.0  # for reading bundles, and as much again for checking where messages are


@check("archive.backlog", "Are idle conversations archived on time?", severity=Level.CRITICAL)
def find_backlog(context: CheckContext) -> Iterator[Finding]:
    """Find an idle conversation that is not archived on time: jobs may succeed every day and archive nothing."""
    days = context.settings.archive.after_days
    if days == 0:
        return
    connection = context.connection
    backlog = count_backlog(connection, read_cutoff(connection, days), budget=TimeBudget(COUNT_SECONDS))
    oldest = timedelta(seconds=backlog.oldest_seconds or 0)
    level = lateness(oldest, days)
    if level is not Level.OK:
        run = runs.LATEST.one(connection, {"limit": 1})
        last_run = (
            {"last run": run.state, "reason": run.reason, "paused for": run.paused_for, "rejected": run.rejected}
            if run is not None
            else {"last run": "never"}
        )
        yield Finding(
            level=level,
            message=f"A conversation has been idle for {oldest.days} days and is not archived; the limit is"
            f" {late_after(days).days} days.",
            object="backlog",
            evidence={
                "conversations": backlog.conversations,
                "messages": backlog.messages,
                **{name: value for name, value in last_run.items() if value},
            },
            remedy="flask ops archive run. Why was it late? flask ops archive status",
        )
    elif not backlog.complete:
        raise UnknownState(
            f"Only {backlog.examined} conversations were read within {COUNT_SECONDS:g} s.",
            remedy="flask ops archive status",
        )


@check("archive.bundles", "Are all bundles intact, with every message in exactly one place?", severity=Level.CRITICAL)
def find_damaged_bundles(context: CheckContext) -> Iterator[Finding]:
    """Find damaged bundles, and conversations with messages in two places or none, as many as time allows."""
    report = verify_with(context.connection, seconds=2 * READ_SECONDS)
    for damage in report.damages:
        yield Finding(
            level=Level.CRITICAL,
            message=f"The archive of conversation {damage.conversation_id} is damaged: {damage.reason}.",
            object=str(damage.conversation_id),
            evidence={"read": report.verified, "bundles": report.bundles, "damaged": report.damaged},
            remedy="Which backup still has it whole? Restore it from there, as the runbook describes",
        )
