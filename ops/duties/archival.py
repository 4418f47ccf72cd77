"""The archival: what was archived within a month, what waits, what is held."""

from dataclasses import asdict
from datetime import timedelta

from ops.archive.status import status
from ops.checks.probe import Probe
from ops.duties.parts import Told
from ops.words import size, span

MONTH = timedelta(days=31)
RUNS = 200  # of the last ones, hourly ones included, that are looked through


def of_a_month(probe: Probe) -> Told:
    """The runs of the last month, added up, and what waits now. Whether that is well is for the checks to say."""
    found = status(latest=RUNS)
    since = probe.now - MONTH
    runs = [run for run in found.runs if run.started_at >= since]
    busy = [run for run in runs if run.conversations or run.unfit or run.state == "failed"]
    conversations, messages = sum(run.conversations for run in runs), sum(run.messages for run in runs)
    plain, bundled = sum(run.plain_bytes for run in runs), sum(run.bundle_bytes for run in runs)
    if found.after_days == 0:
        return Told(says="archival is switched off (ARCHIVE_AFTER_DAYS is 0)")
    waits = f"the oldest that waits has been idle for {span(found.oldest)}" if found.oldest else "none waits"
    return Told(
        says=f"{conversations:,} conversations with {messages:,} messages were archived, {size(plain)} as "
        f"{size(bundled)}; {waits}",
        figures={
            "runs": len(runs),
            "restored": sum(run.restored for run in runs),
            "unfit": sum(run.unfit for run in runs),
            "bundles": found.bundles,
            "bundled_messages": found.bundled_messages,
            "backlog": found.backlog.conversations if found.backlog else 0,
        },
        rows=tuple(
            {name: asdict(run)[name] for name in ("started_at", "state", "conversations", "messages", "reason")}
            for run in busy[:20]
        ),
    )
