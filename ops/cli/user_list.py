"""`flask ops user list`, `show` and `erasures`: reports that change nothing."""

import click

from app.enums import UserRole, UserStatus
from ops.cli.base import command, json_option, print_report, user_argument
from ops.users import users
from ops.users.receipts import list_receipts


@command("list")
@click.option("--email", help="Only the user with this address.")
@click.option("--role", type=click.Choice([role.value for role in UserRole]), help="Only users with this role.")
@click.option(
    "--status", type=click.Choice([status.value for status in UserStatus]), help="Only users with this status."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Maximum number of results.")
@json_option
def list_users(email: str | None, role: str | None, status: str | None, limit: int, json: bool) -> None:
    """List users, newest first."""
    print_report("user list", users.list_users(email=email, role=role, status=status, limit=limit), json=json)


@command("show")
@user_argument
@json_option
def show(user_key: str, json: bool) -> None:
    """Show a user with the number of their objects."""
    print_report("user show", users.get(user_id=users.find_id(user_key)), json=json)


@command("erasures")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Maximum number of results.")
@json_option
def list_erasures(limit: int, json: bool) -> None:
    """List the receipts of erasures, newest first."""
    print_report("user erasures", list_receipts(limit=limit), json=json)
