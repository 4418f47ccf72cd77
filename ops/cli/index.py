"""`flask ops index`: check and repair indexes."""

import click

from ops.cli.entry_points import LazyGroup

SUBCOMMANDS = {
    "apply": (
        "ops.cli.index_repair:apply_plan",
        "Apply a plan step by step; preconditions are checked again before each step.",
    ),
    "check": (
        "ops.cli.index_check:check",
        "Run all checks of indexes and tables, including corruption, for up to a minute.",
    ),
    "plan": (
        "ops.cli.index_repair:plan",
        "Write a plan that fixes the findings: statements, locks, sizes, times and undo.",
    ),
}


@click.group("index", cls=LazyGroup, subcommands=SUBCOMMANDS)
def index() -> None:
    """Check and repair indexes."""
