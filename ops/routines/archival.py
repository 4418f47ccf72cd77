"""The archival: the conversations archived within a month, and the backlog."""

from dataclasses import asdict
from datetime import timedelta

from ops.archive.status import status
from ops.checks.context import CheckContext
from ops.formatting import format_duration, format_size
from ops.routines.sections import Section

MONTH = timedelta(days=31)
MAX_RUNS = 200  # newest runs that are read, hourly ones included


def of_last_month(context: CheckContext) -> Section:
    """Return the totals of the last month's runs, and the present backlog."""
    report = status(latest=MAX_RUNS)
    since = context.now - MONTH
    runs = [run for run in report.runs if run.started_at >= since]
    busy = [run for run in runs if run.conversations or run.rejected or run.state == "failed"]
    conversations, messages = sum(run.conversations for run in runs), sum(run.messages for run in runs)
    plain_bytes, bundle_bytes = sum(run.plain_bytes for run in runs), sum(run.bundle_bytes for run in runs)
    if report.after_days == 0:
        return Section(summary="archival is switched off (ARCHIVE_AFTER_DAYS is 0)")
    backlog = (
        f"the oldest in the backlog has been idle for {format_duration(report.oldest)}"
        if report.oldest
        else "no backlog"
    )
    return Section(
        summary=f"{conversations:,} conversations with {messages:,} messages were archived, "
        f"{format_size(plain_bytes)} as {format_size(bundle_bytes)}; {backlog}",
        data={
            "runs": len(runs),
            "restored": sum(run.restored for run in runs),
            "rejected": sum(run.rejected for run in runs),
            "bundles": report.bundles,
            "bundled_messages": report.bundled_messages,
            "backlog": report.backlog.conversations if report.backlog else 0,
        },
        rows=tuple(
            {name: asdict(run)[name] for name in ("started_at", "state", "conversations", "messages", "reason")}
            for run in busy[:20]
        ),
    )
