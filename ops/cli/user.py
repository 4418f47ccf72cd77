"""`flask ops user`: who has an account, who may what, and what a person may ask of their data."""

import secrets
import sys
from pathlib import Path
from uuid import UUID

import click

from app.models import UserRole, UserStatus
from ops.accounts import people
from ops.accounts.erasure import erase as erase_account
from ops.accounts.erasure import erasures, plan_erasure
from ops.accounts.export import write_account
from ops.accounts.quotas import quota_of, set_quota
from ops.accounts.reading import opened_account, opened_conversation
from ops.audit import audited
from ops.cli.frame import Plan, ask, json_option, operator, ops, tell, yes_option
from ops.cli.rendering import cell
from ops.levels import Level

WHO = click.argument("who", metavar="ID_OR_EMAIL")


@ops.group("user")
def user() -> None:
    """Accounts, and what people may ask of their data."""


@user.command("list")
@click.option("--email", help="Only the one with this address.")
@click.option("--role", type=click.Choice([role.value for role in UserRole]))
@click.option("--status", type=click.Choice([status.value for status in UserStatus]))
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def list_users(email: str | None, role: str | None, status: str | None, limit: int, json: bool) -> None:
    """Accounts, the newest first."""
    tell("user list", people.page(email=email, role=role, status=status, limit=limit), json=json)


@user.command("show")
@WHO
@json_option
def show(who: str, json: bool) -> None:
    """One account, and how much there is of it."""
    tell("user show", people.find(user_id=people.id_of(who)), json=json)


@user.command("create")
@click.argument("email")
@click.option("--name", required=True)
@click.option(
    "--role", type=click.Choice([role.value for role in UserRole]), default=UserRole.USER.value, show_default=True
)
@click.option("--generate", is_flag=True, help="Make up a password and print it, instead of asking for one.")
@json_option
def create(email: str, name: str, role: str, generate: bool, json: bool) -> None:
    """Open an account."""
    if not (email.count("@") == 1 and all(email.split("@")) and len(email) <= 254 and email.isprintable()):
        raise click.BadParameter("It is no email address.", param_hint="EMAIL")
    if not (1 <= len(name.strip()) <= 100 and name.isprintable()):
        raise click.BadParameter("1 to 100 characters.", param_hint="--name")
    password = secrets.token_urlsafe(15) if generate else _password()
    with audited(by=operator(), action="user.create", details={"role": role}) as notes:
        created = people.create(email=email, name=name, password=password, role=UserRole(role))
        notes["account"] = str(created.id)
    if generate:
        click.echo(f"The password is {password}: it is not shown again.", err=True)
    tell("user create", created, json=json)


@user.command("disable")
@WHO
@yes_option
@json_option
def disable(who: str, yes: bool, json: bool) -> None:
    """Keep somebody out; their data stays."""
    found = people.find(user_id=people.id_of(who))
    does = f"disable {found.email}: {found.sessions} sessions end, {found.api_keys} API keys open nothing."
    ask(Plan(does=does, undo=f"flask ops user enable {found.id}"), yes=yes)
    with audited(by=operator(), action="user.disable", on=str(found.id)):
        tell_later = people.disable(user_id=found.id)
    tell("user disable", tell_later, json=json)


@user.command("enable")
@WHO
@json_option
def enable(who: str, json: bool) -> None:
    """Let somebody in again."""
    user_id = people.id_of(who)
    with audited(by=operator(), action="user.enable", on=str(user_id)):
        changed = people.enable(user_id=user_id)
    tell("user enable", changed, json=json)


@user.command("promote")
@WHO
@click.option(
    "--role", type=click.Choice([role.value for role in UserRole]), default=UserRole.OPERATOR.value, show_default=True
)
@yes_option
@json_option
def promote(who: str, role: str, yes: bool, json: bool) -> None:
    """Change what somebody may do."""
    found = people.find(user_id=people.id_of(who))
    undo = f"flask ops user promote {found.id} --role {found.role}"
    ask(Plan(does=f"make {found.email}, who is {found.role}, {role}.", undo=undo), yes=yes)
    with audited(by=operator(), action="user.promote", on=str(found.id), details={"from": found.role, "to": role}):
        changed = people.set_role(user_id=found.id, role=UserRole(role))
    tell("user promote", changed, json=json)


@user.command("logout")
@WHO
@yes_option
@json_option
def logout(who: str, yes: bool, json: bool) -> None:
    """End every session of somebody."""
    found = people.find(user_id=people.id_of(who))
    ask(Plan(does=f"end {found.sessions} sessions of {found.email}.", undo="none; they log in again"), yes=yes)
    with audited(by=operator(), action="user.logout", on=str(found.id), details={"sessions": found.sessions}):
        people.end_sessions(user_id=found.id)
    tell("user logout", people.find(user_id=found.id), json=json)


@user.command("quota")
@WHO
@click.option("--tokens", type=click.IntRange(1), help="Let them use so many a day, in UTC.")
@click.option("--unlimited", is_flag=True, help="Let them use as many as they like.")
@json_option
def quota(who: str, tokens: int | None, unlimited: bool, json: bool) -> None:
    """Show somebody's daily quota of tokens, or set it."""
    if tokens is not None and unlimited:
        raise click.UsageError("Give --tokens or --unlimited, not both.")
    user_id = people.id_of(who)
    if tokens is None and not unlimited:
        tell("user quota", quota_of(user_id=user_id), json=json)
        return
    with audited(by=operator(), action="user.quota", on=str(user_id), details={"tokens_per_day": tokens}):
        changed = set_quota(user_id=user_id, tokens_per_day=tokens)
    tell("user quota", changed, json=json)


@user.command("export")
@WHO
@click.option("--reason", required=True, help="Why you must have what is somebody else's; it is written down.")
@click.option("--to", "path", type=click.Path(path_type=Path, dir_okay=False), help="The file; it must not exist yet.")
@json_option
def export(who: str, reason: str, path: Path | None, json: bool) -> None:
    """Write everything somebody has into one ZIP file. This breaks the glass: it is audited, with your reason."""
    with opened_account(user_id=people.id_of(who), by=operator(), reason=reason) as opened:
        exported = write_account(opened, path=path or Path(opened.filename))
    tell("user export", exported, json=json, level=Level.WARNING if exported.unread else Level.OK)


@user.command("erase")
@WHO
@click.option("--reason", required=True, help="Why; it stands in the receipt.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@yes_option
@json_option
def erase(who: str, reason: str, dry_run: bool, yes: bool, json: bool) -> None:
    """Delete somebody and all they have, for good, and write a receipt."""
    plan = plan_erasure(user_id=people.id_of(who))
    if dry_run:
        tell("user erase --dry-run", plan, json=json)
        return
    ask(Plan(does=f"erase account {plan.account_id}: {cell(plan.rows)}.", undo="none"), yes=yes)
    by = operator()
    with audited(by=by, action="user.erase", on=str(plan.account_id), details={"reason": reason}) as notes:
        receipt = erase_account(user_id=plan.account_id, by=by, reason=reason)
        notes["receipt"], notes["rows"] = str(receipt.id), receipt.rows
    tell("user erase", receipt, json=json)


@user.command("erasures")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def list_erasures(limit: int, json: bool) -> None:
    """The receipts, the newest first."""
    tell("user erasures", erasures(limit=limit), json=json)


@user.command("read")
@WHO
@click.argument("conversation", type=click.UUID)
@click.option("--reason", required=True, help="Why you must read what is somebody else's; it is written down.")
def read(who: str, conversation: UUID, reason: str) -> None:
    """Read a conversation. This breaks the glass: it is audited, with your reason."""
    known = {"user_id": people.id_of(who), "conversation_id": conversation}
    with opened_conversation(**known, by=operator(), reason=reason) as pieces:
        for piece in pieces:
            click.echo(piece, nl=False)


def _password() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask for a password on: give --generate.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
