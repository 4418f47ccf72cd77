"""What the `flask` command can do beside Flask's own; `wsgi.py` hands these in.

A web worker imports this, too, and never runs any of it: so each command is imported when somebody calls it.
"""

from typing import Any

import click

from ops.declarations import load


class Deferred(click.Command):
    """Stands for the command at `where` (module:name) until it is called."""

    def __init__(self, name: str, where: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._where = where

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        command: click.Command = load(self._where)  # type: ignore[assignment]  # a command can be called as well
        return command.make_context(*args, **options)


COMMANDS: tuple[click.Command, ...] = (
    Deferred("chat", "ops.cli.chat:chat", "Chat with a running Parley."),
    Deferred("ops", "ops.cli.nouns:ops", "Look after Parley: what is wrong, what ran, and what mends it."),
)
