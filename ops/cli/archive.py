"""`flask ops archive`: archive idle conversations, restore them, hold them back."""

import click

from ops.cli.entry_points import LazyGroup

SUBCOMMANDS = {
    "hold": ("ops.cli.archive_hold:hold", "Legal holds: conversations that cannot be deleted or archived."),
    "plan": ("ops.cli.archive_status:plan", "Show what a run would archive."),
    "restore": (
        "ops.cli.archive_run:restore",
        "Restore archived conversations of a run or a user, or one conversation.",
    ),
    "run": ("ops.cli.archive_run:run", "Archive conversations that were idle for ARCHIVE_AFTER_DAYS."),
    "status": ("ops.cli.archive_status:status", "Show the backlog, the archived conversations and the latest runs."),
    "verify": (
        "ops.cli.archive_run:verify",
        "Read all bundles and check where the messages of each conversation are stored.",
    ),
}


@click.group("archive", cls=LazyGroup, subcommands=SUBCOMMANDS)
def archive() -> None:
    """Archive idle conversations, restore them, and hold them back."""
