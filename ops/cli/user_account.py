"""`flask ops user create`, `disable`, `enable`, `promote`, `logout`, `quota` and `storage`."""

import secrets
import sys

import click

from app.bounds import MAX_BYTES, MAX_TOKENS_PER_DAY
from app.container import current_settings
from app.enums import UserRole
from app.services.quotas import quota_of, set_quota
from app.services.stored_bytes import set_limit, storage_use
from app.text import is_blank
from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, user_argument, yes_option
from ops.runs.audit import audited
from ops.users import users


@command("create")
@click.argument("email")
@click.option("--name", required=True, help="Display name, 1 to 100 characters.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in UserRole]),
    default=UserRole.USER.value,
    show_default=True,
    help="Role.",
)
@click.option("--generate", is_flag=True, help="Generate a password and print it, instead of prompting for one.")
@json_option
def create(email: str, name: str, role: str, generate: bool, json: bool) -> None:
    """Create a user."""
    if not (email.count("@") == 1 and all(email.split("@")) and len(email) <= 254 and email.isprintable()):
        raise click.BadParameter("This is not an email address.", param_hint="EMAIL")
    if is_blank(name) or len(name.strip()) > 100 or not name.isprintable():
        raise click.BadParameter("The name must have 1 to 100 printable characters.", param_hint="--name")
    password = secrets.token_urlsafe(15) if generate else _password()
    with audited(actor=operator(), action="user.create", details={"role": role}) as notes:
        created = users.create(email=email, name=name, password=password, role=UserRole(role))
        notes["account"] = str(created.id)
    if generate:
        click.echo(f"The password is {password}. It is not shown again.", err=True)
    print_report("user create", created, json=json)


@command("disable")
@user_argument
@yes_option
@json_option
def disable(user_key: str, yes: bool, json: bool) -> None:
    """Disable a user: no login, no API key; the data stays."""
    user_details = users.get(user_id=users.find_id(user_key))
    effect = f"{user_details.sessions} sessions end, {user_details.api_keys} API keys stop working"
    summary = f"disable {user_details.email}: {effect}."
    confirm(ChangePlan(summary=summary, undo=f"flask ops user enable {user_details.id}"), yes=yes)
    with audited(actor=operator(), action="user.disable", target=str(user_details.id)):
        disabled = users.disable(user_id=user_details.id)
    print_report("user disable", disabled, json=json)


@command("enable")
@user_argument
@yes_option
@json_option
def enable(user_key: str, yes: bool, json: bool) -> None:
    """Enable a disabled user."""
    user_details = users.get(user_id=users.find_id(user_key))
    summary = f"enable {user_details.email}: the user can log in, and {user_details.api_keys} API keys work again."
    confirm(ChangePlan(summary=summary, undo=f"flask ops user disable {user_details.id}"), yes=yes)
    with audited(actor=operator(), action="user.enable", target=str(user_details.id)):
        changed = users.enable(user_id=user_details.id)
    print_report("user enable", changed, json=json)


@command("promote")
@user_argument
@click.option(
    "--role", type=click.Choice([role.value for role in UserRole]), default=UserRole.OPERATOR.value, show_default=True
)
@yes_option
@json_option
def promote(user_key: str, role: str, yes: bool, json: bool) -> None:
    """Change the role of a user."""
    user_details = users.get(user_id=users.find_id(user_key))
    undo = f"flask ops user promote {user_details.id} --role {user_details.role}"
    confirm(
        ChangePlan(summary=f"change the role of {user_details.email} from {user_details.role} to {role}.", undo=undo),
        yes=yes,
    )
    with audited(
        actor=operator(),
        action="user.promote",
        target=str(user_details.id),
        details={"from": user_details.role, "to": role},
    ):
        changed = users.set_role(user_id=user_details.id, role=UserRole(role))
    print_report("user promote", changed, json=json)


@command("logout")
@user_argument
@yes_option
@json_option
def logout(user_key: str, yes: bool, json: bool) -> None:
    """End all sessions of a user."""
    user_details = users.get(user_id=users.find_id(user_key))
    confirm(
        ChangePlan(
            summary=f"end {user_details.sessions} sessions of {user_details.email}.",
            undo="none; the user can log in again",
        ),
        yes=yes,
    )
    with audited(
        actor=operator(), action="user.logout", target=str(user_details.id), details={"sessions": user_details.sessions}
    ):
        users.end_sessions(user_id=user_details.id)
    print_report("user logout", users.get(user_id=user_details.id), json=json)


@command("quota")
@user_argument
@click.option("--tokens", type=click.IntRange(1, MAX_TOKENS_PER_DAY), help="Set the quota of tokens per UTC day.")
@click.option("--unlimited", is_flag=True, help="Remove the quota.")
@json_option
def quota(user_key: str, tokens: int | None, unlimited: bool, json: bool) -> None:
    """Show or set the daily token quota of a user."""
    if tokens is not None and unlimited:
        raise click.UsageError("Pass either --tokens or --unlimited, not both.")
    user_id = users.find_id(user_key)
    if tokens is None and not unlimited:
        print_report("user quota", quota_of(user_id=user_id), json=json)
        return
    with audited(actor=operator(), action="user.quota", target=str(user_id), details={"tokens_per_day": tokens}):
        changed = set_quota(user_id=user_id, tokens_per_day=tokens)
    print_report("user quota", changed, json=json)


@command("storage")
@user_argument
@click.option("--max-bytes", type=click.IntRange(0, MAX_BYTES), help="Set the limit of the user; 0 means none.")
@click.option("--default", "reset", is_flag=True, help="Remove the user's own limit, so that USER_MAX_BYTES applies.")
@json_option
def storage(user_key: str, max_bytes: int | None, reset: bool, json: bool) -> None:
    """Show or limit the bytes that a user stores."""
    if max_bytes is not None and reset:
        raise click.UsageError("Pass either --max-bytes or --default, not both.")
    user_id, default = users.find_id(user_key), current_settings().chat.user_max_bytes
    if max_bytes is None and not reset:
        print_report("user storage", storage_use(user_id, default), json=json)
        return
    with audited(actor=operator(), action="user.storage", target=str(user_id), details={"max_bytes": max_bytes}):
        changed = set_limit(user_id, max_bytes, default)
    print_report("user storage", changed, json=json)


def _password() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("No terminal to prompt for a password: pass --generate.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
