"""Copies of files at providers: whether they are uploaded, deleted, and the same on both sides."""

from collections.abc import Iterator

from app.errors import ProviderError
from app.repositories.provider_files import GIVEN_UP, OVERDUE
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.levels import Level
from ops.maintenance.provider_file_orphans import find_orphans
from ops.maintenance.provider_files import reachable_providers

OVERDUE_HOURS = 24
SHOWN = 5  # ids in a finding


@check("provider_files.state", "Are copies of files at providers uploaded and deleted?", severity=Level.WARNING)
def find_failed_copies(context: CheckContext) -> Iterator[Finding]:
    """Find uploads that failed, and copies that should have been deleted a day ago."""
    reachable = reachable_providers()
    for row in OVERDUE.all(context.connection, {"hours": OVERDUE_HOURS}):
        known = row.provider in reachable
        yield Finding(
            level=Level.WARNING,
            message=f"{row.rows} copies of deleted files are still at the provider {row.provider}"
            + (f" after {OVERDUE_HOURS} hours." if known else ", which this server has no key for any more."),
            object=f"removals {row.provider}",
            evidence={"provider": row.provider, "copies": row.rows, "since": str(row.since)},
            remedy=f"Does {row.provider} answer, and is its key right? Then `flask ops jobs run provider_files.sync`"
            if known
            else f"Can you set the key of {row.provider} again, until they are deleted?",
        )
    for row in GIVEN_UP.all(context.connection, {}):
        yield Finding(
            level=Level.WARNING,
            message=f"{row.rows} files could not be copied to the provider {row.provider}. One reason: {row.reason}",
            object=f"uploads {row.provider}",
            evidence={"provider": row.provider, "files": row.rows, "reason": row.reason},
            remedy=f"Can {row.provider} take these files? If not, their owners must delete them or turn the copies off",
        )


@check(
    "provider_files.orphans",
    "Do the copies of files at providers and their rows match?",
    severity=Level.WARNING,
    thorough=True,
)
def find_orphaned_copies(context: CheckContext) -> Iterator[Finding]:
    """List the files at each provider. Raises `UnknownState` if one does not answer."""
    try:
        for found in find_orphans():
            if found.without_row or found.without_copy:
                yield Finding(
                    level=Level.WARNING,
                    message=f"At the provider {found.provider}, {len(found.without_row)} copies belong to no file, and"
                    f" {len(found.without_copy)} are missing.",
                    object=found.provider,
                    evidence={
                        "without_row": list(found.without_row[:SHOWN]),
                        "without_copy": list(found.without_copy[:SHOWN]),
                    },
                    remedy="flask ops jobs run provider_files.reconcile",
                )
    except ProviderError as error:
        raise UnknownState(error.detail, remedy="Does the provider answer, and is its key right?") from error
