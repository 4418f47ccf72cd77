"""`flask ops key`: API keys of users."""

from uuid import UUID

import click

from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import group, json_option, print_report, user_argument, yes_option
from ops.runs.audit import audited
from ops.users import keys as functions
from ops.users import users


@group("key")
def key() -> None:
    """List and revoke API keys of users."""


@key.command("list")
@user_argument
@json_option
def list_keys(user_key: str, json: bool) -> None:
    """List the API keys of a user, newest first."""
    print_report("key list", functions.list_keys(user_id=users.find_id(user_key)), json=json)


@key.command("revoke")
@user_argument
@click.argument("key_id", type=click.UUID, metavar="KEY")
@yes_option
@json_option
def revoke(user_key: str, key_id: UUID, yes: bool, json: bool) -> None:
    """Revoke an API key; the next request with it is refused."""
    user_id = users.find_id(user_key)
    confirm(
        ChangePlan(summary=f"revoke key {key_id} of user {user_id}.", undo="none; the user can create a new key"),
        yes=yes,
    )
    with audited(actor=operator(), action="key.revoke", target=str(key_id), details={"account": str(user_id)}):
        revoked = functions.revoke_key(user_id=user_id, key_id=key_id)
    print_report("key revoke", revoked, json=json)
