"""`flask ops provider`: choose and test the AI provider."""

import click

from ops.cli.entry_points import LazyGroup

SUBCOMMANDS = {
    "list": ("ops.cli.provider_list:list_all", "List all providers with their configuration and the default."),
    "reset": ("ops.cli.provider_changes:reset", "Remove the choice, so that AI_PROVIDER applies again."),
    "test": (
        "ops.cli.provider_changes:test",
        "Send a short request to NAME, or to the provider in use; show its duration or the error.",
    ),
    "use": ("ops.cli.provider_changes:use", "Make NAME the default provider of all servers."),
}


@click.group("provider", cls=LazyGroup, subcommands=SUBCOMMANDS)
def provider() -> None:
    """Choose and test the AI provider."""
