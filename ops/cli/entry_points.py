"""The entry points of the `flask` command.

Flask imports this module for each of its commands, so it imports little more than Click and Flask. A group imports a
subcommand when it is named (Click's documentation, "Lazily Loading Subcommands"), and the application when the
subcommand runs.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

from ops.levels import USAGE

# Each command as `module:name`, and its summary in the list of commands.
COMMANDS = {
    "archive": ("ops.cli.archive:archive", "Archive idle conversations, restore them, and hold them back."),
    "audit": ("ops.cli.audit:audit", "List the recorded actions of operators, newest first."),
    "backup": ("ops.cli.backup:backup", "Back up, verify, restore, and prune backups."),
    "database": ("ops.cli.database:database", "Prepare the database's role for a pooler."),
    "doctor": ("ops.cli.doctor:doctor", "Check the installation."),
    "growth": ("ops.cli.growth:show_growth", "Show the growth of tables."),
    "index": ("ops.cli.index:index", "Check and repair indexes."),
    "jobs": ("ops.cli.jobs:jobs", "List, run, inspect, pause and cancel jobs."),
    "key": ("ops.cli.key:key", "List and revoke API keys of users."),
    "locks": ("ops.cli.locks:locks", "Show which sessions wait for locks, or end a session."),
    "mcp": ("ops.cli.mcp:mcp", "Register MCP servers, and allow their tools."),
    "metrics": ("ops.cli.metrics:metrics", "Show the main metrics of the running server."),
    "pool": ("ops.cli.pool:pool", "Show the connections to the database."),
    "provider": ("ops.cli.provider:provider", "Choose and test the AI provider."),
    "psql": ("ops.cli.psql:psql", "Run psql, connected as the application is."),
    "routine": ("ops.cli.routine:routine", "Run the daily, weekly or monthly routine."),
    "seed": ("ops.cli.seed:seed", "Create users and messages for tests at scale."),
    "sizes": ("ops.cli.sizes:show_sizes", "Show the present sizes of tables and indexes."),
    "slow": ("ops.cli.slow:show_slow", "Show the statements that take the most time."),
    "user": ("ops.cli.user:user", "Manage users, their quotas and their data."),
}


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Import and build without garbage collections, which take a tenth of the time and find nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what was imported stays
        gc.enable()


class LazyGroup(click.Group):
    """A group whose subcommands are given as `module:name` and summary."""

    def __init__(self, *args: Any, subcommands: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subcommands = subcommands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands."""
        return sorted({*super().list_commands(ctx), *self.subcommands})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the subcommand `name`, imported now; None if there is none."""
        if name not in self.subcommands:
            return super().get_command(ctx, name)
        module, _, attribute = self.subcommands[name][0].partition(":")
        with _gc_paused():
            command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in sorted(self.subcommands.items())])


class OpsGroup(LazyGroup):
    """The group of all operations; each of its commands ends with an exit code of `ops.cli.exit_codes`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Let subcommands use the core application instead of the web application of `wsgi.py`."""
        try:
            return super().make_context(info_name, args, parent, **_with_app(_create_command_app, parent, extra))
        except click.UsageError as error:
            error.exit_code = USAGE  # type: ignore[misc]  # click reads it from the instance
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand and turn its exceptions into exit codes."""
        with _gc_paused():
            from ops.cli.exit_codes import exit_codes

        with exit_codes(ctx):
            return super().invoke(ctx)


class MigrationCommand(click.Command):
    """Flask-Migrate's command on the core application. Alembic is imported when it runs."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of Flask-Migrate's own group."""
        from flask_migrate.cli import db as group

        context: click.Context = group.make_context(
            info_name, args, parent, **_with_app(_create_migration_app, parent, extra)
        )
        return context


def _with_app(create_app: Callable[[], Flask], parent: click.Context | None, extra: dict[str, Any]) -> dict[str, Any]:
    """Return `extra` with a `ScriptInfo` that calls `create_app`, unless the caller has chosen an application."""
    inherited = parent.find_object(ScriptInfo) if parent is not None else None
    if "obj" in extra or (inherited is not None and inherited.create_app is not None):
        return extra
    return {**extra, "obj": ScriptInfo(create_app=create_app)}


def _create_command_app() -> Flask:
    with _gc_paused():
        from ops.cli.application import create_command_app

        return create_command_app()


def _create_migration_app() -> Flask:
    from ops.cli.application import create_migration_app

    return create_migration_app()


@click.group(cls=OpsGroup, subcommands=COMMANDS)
def ops() -> None:
    """Operate Parley: checks, jobs, backups, archive, users, providers.

    Exit codes: 0 ok, 1 warning, 2 critical or failed, 3 unknown or not possible here, 4 another run is in progress,
    64 usage error.
    """


db = MigrationCommand("db", help="Migrate the database (Flask-Migrate).")
