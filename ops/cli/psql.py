"""`flask ops psql`: psql, connected as the application is."""

import click

from app.database import autocommit
from ops.cli.actions import operator
from ops.cli.base import command
from ops.maintenance.psql import find_psql, psql_environment, run_psql
from ops.runs.audit import audited


@command("psql")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def psql(options: tuple[str, ...]) -> None:
    """Run psql, connected as the application is.

    It has the same server, role and startup options. OPTIONS for psql follow two hyphens. The exit code is
    psql's. The audit records that psql ran, not its statements.
    """
    program = find_psql()
    with autocommit() as connection:
        environment = psql_environment(connection)
    with audited(actor=operator(), action="database.psql", target=environment["PGDATABASE"]) as notes:
        code = run_psql(program, environment, options)
        notes["exit_code"] = code
    if code:
        click.get_current_context().exit(code if code > 0 else 128 - code)
