"""`flask ops seed`: generated data for tests at scale."""

import click

from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, yes_option
from ops.runs.audit import audited
from ops.seed import delete_seeds
from ops.seed import seed as create_seeds


@command("seed")
@click.option("--users", type=click.IntRange(1, 1_000_000), default=10, show_default=True, help="Number of users.")
@click.option(
    "--conversations", type=click.IntRange(0, 10_000), default=10, show_default=True, help="Conversations per user."
)
@click.option(
    "--messages", type=click.IntRange(0, 100_000), default=100, show_default=True, help="Messages per conversation."
)
@click.option(
    "--days", type=click.FloatRange(0, 36_500), default=0, help="Spread the messages over this many days until now."
)
@click.option("--remove", is_flag=True, help="Delete all generated users and create nothing.")
@yes_option
@json_option
def seed(users: int, conversations: int, messages: int, days: float, remove: bool, yes: bool, json: bool) -> None:
    """Create users and messages for tests at scale."""
    if remove:
        planned = delete_seeds(dry_run=True)
        confirm(
            ChangePlan(summary=f"delete {planned.users:,} generated users with all their data.", undo="none"), yes=yes
        )
        with audited(actor=operator(), action="seed.remove") as notes:
            deleted = delete_seeds()
            notes["users"] = deleted.users
        print_report("seed --remove", deleted, json=json)
        return
    rows = users * conversations * messages
    confirm(
        ChangePlan(summary=f"write {rows:,} messages of {users:,} generated users.", undo="flask ops seed --remove"),
        yes=yes,
    )
    with audited(actor=operator(), action="seed.make", details={"users": users, "messages": rows}):
        created = create_seeds(users=users, conversations=conversations, messages=messages, days=days)
    print_report("seed", created, json=json)
