"""`flask ops archive hold list`."""

import click

from ops.archive import holds as legal
from ops.cli.base import command, json_option, print_report


@command("list")
@click.option("--user", metavar="ID|EMAIL", help="Only holds of this user.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Maximum number of results."
)
@json_option
def list_holds(user: str | None, limit: int, json: bool) -> None:
    """List the holds with their reasons and authors."""
    user_id = None
    if user is not None:
        from ops.users.users import find_id  # the list of all holds does not need it

        user_id = find_id(user)
    print_report("archive hold list", legal.list_holds(user_id=user_id, limit=limit), json=json)
