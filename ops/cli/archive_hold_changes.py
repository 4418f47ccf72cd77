"""`flask ops archive hold add` and `remove`."""

from uuid import UUID

import click

from ops.archive import holds as legal
from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, yes_option
from ops.runs.audit import audited
from ops.users import users


@command("add")
@click.option("--conversation", type=click.UUID, metavar="ID", help="Hold this conversation.")
@click.option("--user", metavar="ID|EMAIL", help="Hold all conversations that the user has now, but no later ones.")
@click.option("--reason", required=True, help="The reason; stored with the hold.")
@json_option
def add(conversation: UUID | None, user: str | None, reason: str, json: bool) -> None:
    """Hold a conversation, or all current conversations of a user."""
    if (conversation is None) == (user is None):
        raise click.UsageError("Pass either --conversation or --user.")
    by = operator()
    target = str(conversation or users.find_id(str(user)))  # as the admin API names it
    with audited(actor=by, action="hold.add", target=target, details={"reason": reason}) as notes:
        if conversation is not None:
            held = legal.hold_conversation(conversation_id=conversation, reason=reason, by=by.name)
        else:
            assert user is not None  # noqa: S101  # checked above
            held = legal.hold_user(user_id=users.find_id(user), reason=reason, by=by.name)
        notes["held"] = held.held
    print_report("archive hold add", held, json=json)


@command("remove")
@click.argument("hold_id", type=click.UUID, metavar="HOLD")
@yes_option
@json_option
def remove(hold_id: UUID, yes: bool, json: bool) -> None:
    """Lift a hold."""
    confirm(
        ChangePlan(
            summary="lift the hold; the owner can then delete the conversation.", undo="flask ops archive hold add"
        ),
        yes=yes,
    )
    with audited(actor=operator(), action="hold.remove", target=str(hold_id)) as notes:
        lifted = legal.lift_hold(hold_id=hold_id)
        notes["conversation"] = str(lifted.conversation_id)
    print_report("archive hold remove", lifted, json=json)
