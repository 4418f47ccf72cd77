"""The archival: whether it keeps up, and whether what it has stored is still what it was."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories import archive_runs as runs
from ops.archive.backlog import backlog as count_backlog
from ops.archive.backlog import cutoff_of, late_after, lateness
from ops.archive.verify import verify_on
from ops.care.batches import TimeBox
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level

COUNT_SECONDS = 4.0
READ_SECONDS = 2.0  # for bundles, and as much for looking where the messages are


def backlog(probe: Probe) -> Iterator[Finding]:
    """The age of the oldest idle conversation: a job may end well every day and archive nothing."""
    days = probe.settings.archive.after_days
    if days == 0:
        return
    connection = probe.connection
    found = count_backlog(connection, cutoff_of(connection, days), time_box=TimeBox(COUNT_SECONDS))
    oldest = timedelta(seconds=found.oldest_seconds or 0)
    level = lateness(oldest, days)
    if level is not Level.OK:
        last = runs.LATEST.one(connection, {"limit": 1})
        about_last = (
            {"last run": last.state, "because": last.reason, "waited for": last.paused_for, "unfit": last.unfit}
            if last is not None
            else {"last run": "never"}
        )
        yield Finding(
            level=level,
            what=f"A conversation has been idle for {oldest.days} days and is not archived;"
            f" {late_after(days).days} is the most.",
            evidence={
                "conversations": found.conversations,
                "messages": found.messages,
                **{name: value for name, value in about_last.items() if value},
            },
            remedy="flask ops archive status, then: flask ops archive run",
        )
    elif not found.complete:
        raise CannotJudge(
            f"Only {found.seen} conversations could be looked at in {COUNT_SECONDS:g} s.",
            remedy="flask ops archive status",
        )


def bundles(probe: Probe) -> Iterator[Finding]:
    """Bundles, read whole, and conversations that are in two places or in none; as many as a few seconds allow."""
    found = verify_on(probe.connection, seconds=2 * READ_SECONDS)
    for damage in found.damages:
        yield Finding(
            level=Level.CRITICAL,
            what=f"The archive of conversation {damage.conversation_id} is damaged: {damage.why}.",
            evidence={"read": found.verified, "bundles": found.bundles, "damaged": found.damaged},
            remedy="flask ops archive verify, then bring it back from a backup, as the runbook says",
        )
