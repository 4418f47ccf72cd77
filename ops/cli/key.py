"""`flask ops key`: people's API keys."""

from uuid import UUID

import click

from ops.accounts import keys as functions
from ops.accounts import people
from ops.audit import audited
from ops.cli.frame import Plan, ask, json_option, operator, ops, tell, yes_option


@ops.group("key")
def key() -> None:
    """API keys: never shown, but ended."""


@key.command("list")
@click.argument("who", metavar="ID_OR_EMAIL")
@json_option
def list_keys(who: str, json: bool) -> None:
    """Somebody's API keys, the newest first."""
    tell("key list", functions.keys(user_id=people.id_of(who)), json=json)


@key.command("revoke")
@click.argument("who", metavar="ID_OR_EMAIL")
@click.argument("key_id", type=click.UUID, metavar="KEY")
@yes_option
@json_option
def revoke(who: str, key_id: UUID, yes: bool, json: bool) -> None:
    """End a key: it fails from the next request on."""
    user_id = people.id_of(who)
    ask(Plan(does=f"revoke key {key_id} of account {user_id}.", undo="none; its owner makes a new one"), yes=yes)
    with audited(by=operator(), action="key.revoke", on=str(key_id), details={"account": str(user_id)}):
        revoked = functions.revoke(user_id=user_id, key_id=key_id)
    tell("key revoke", revoked, json=json)
