"""What the `flask` command can do beside Flask's own; `wsgi.py` hands these in. One module for each noun of `ops`."""

import click

from ops.cli import archive, audit, backup, doctor, jobs, provider, seed
from ops.cli.chat import chat
from ops.cli.frame import ops

NOUNS = (archive, audit, backup, doctor, jobs, provider, seed)  # importing one adds its commands to `ops`
COMMANDS: tuple[click.Command, ...] = (chat, ops)
