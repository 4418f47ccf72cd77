"""`flask ops user export`, `erase` and `read`: the data of a user."""

from pathlib import Path
from uuid import UUID

import click

from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, user_argument, yes_option
from ops.cli.rendering import cell
from ops.levels import Level
from ops.runs.audit import audited
from ops.users import users
from ops.users.break_glass import audited_conversation, audited_user_data
from ops.users.erasure import erase as erase_account
from ops.users.erasure import plan_erasure
from ops.users.export import write_user_export


@command("export")
@user_argument
@click.option("--reason", required=True, help="Why you need the user's data; recorded in the audit.")
@click.option("--to", "path", type=click.Path(path_type=Path, dir_okay=False), help="ZIP file; must not exist.")
@json_option
def export(user_key: str, reason: str, path: Path | None, json: bool) -> None:
    """Write all data of a user to a ZIP file. Break-glass access: the audit records it with the reason."""
    with audited_user_data(user_id=users.find_id(user_key), by=operator(), reason=reason) as opened:
        exported = write_user_export(opened, path=path or Path(opened.filename))
    print_report(
        "user export",
        exported,
        json=json,
        level=Level.WARNING if exported.unread or exported.unread_files else Level.OK,
    )


@command("erase")
@user_argument
@click.option("--reason", required=True, help="The reason; stored in the receipt.")
@click.option("--dry-run", is_flag=True, help="Show what would be erased, without erasing.")
@yes_option
@json_option
def erase(user_key: str, reason: str, dry_run: bool, yes: bool, json: bool) -> None:
    """Erase a user with all their data, permanently, and write a receipt."""
    plan = plan_erasure(user_id=users.find_id(user_key))
    if dry_run:
        print_report("user erase --dry-run", plan, json=json)
        return
    confirm(ChangePlan(summary=f"erase user {plan.user_id}: {cell(plan.rows)}.", undo="none"), yes=yes)
    by = operator()
    with audited(actor=by, action="user.erase", target=str(plan.user_id), details={"reason": reason}) as notes:
        receipt = erase_account(user_id=plan.user_id, by=by, reason=reason)
        notes["receipt"], notes["rows"] = str(receipt.id), receipt.rows
    print_report("user erase", receipt, json=json)


@command("read")
@user_argument
@click.argument("conversation", type=click.UUID)
@click.option("--reason", required=True, help="Why you need to read it; recorded in the audit.")
def read(user_key: str, conversation: UUID, reason: str) -> None:
    """Print a conversation of a user. Break-glass access: the audit records it with the reason."""
    ids = {"user_id": users.find_id(user_key), "conversation_id": conversation}
    with audited_conversation(**ids, by=operator(), reason=reason) as chunks:
        for chunk in chunks:
            click.echo(chunk, nl=False)
