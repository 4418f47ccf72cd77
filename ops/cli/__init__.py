"""What the `flask` command can do beside Flask's own; `wsgi.py` hands these in."""

import click

from ops.cli.chat import chat

COMMANDS: tuple[click.Command, ...] = (chat,)
