"""`flask ops archive hold`: legal holds."""

import click

from ops.cli.entry_points import LazyGroup

SUBCOMMANDS = {
    "add": ("ops.cli.archive_hold_changes:add", "Hold a conversation, or all current conversations of a user."),
    "list": ("ops.cli.archive_hold_list:list_holds", "List the holds with their reasons and authors."),
    "remove": ("ops.cli.archive_hold_changes:remove", "Lift a hold."),
}


@click.group("hold", cls=LazyGroup, subcommands=SUBCOMMANDS)
def hold() -> None:
    """Legal holds: conversations that cannot be deleted or archived."""
