"""`flask ops seed`: made-up data, to try Parley at a size."""

import click

from ops.audit import audited
from ops.cli.frame import Plan, ask, json_option, operator, ops, tell, yes_option
from ops.seed import remove_seeds
from ops.seed import seed as make_seeds


@ops.command("seed")
@click.option("--users", type=click.IntRange(1, 1_000_000), default=10, show_default=True, help="Accounts.")
@click.option("--conversations", type=click.IntRange(0, 10_000), default=10, show_default=True, help="Of each account.")
@click.option("--messages", type=click.IntRange(0, 100_000), default=100, show_default=True, help="In each of these.")
@click.option(
    "--days", type=click.FloatRange(0, 36_500), default=0, help="Spread them over so many days back from now."
)
@click.option("--remove", is_flag=True, help="Delete everything that was ever made so, and make nothing.")
@yes_option
@json_option
def seed(users: int, conversations: int, messages: int, days: float, remove: bool, yes: bool, json: bool) -> None:
    """Make accounts with conversations that nobody had."""
    if remove:
        found = remove_seeds(dry_run=True)
        ask(Plan(does=f"delete {found.users:,} made-up accounts with all they have.", undo="none"), yes=yes)
        with audited(by=operator(), action="seed.remove") as notes:
            removed = remove_seeds()
            notes["users"] = removed.users
        tell("seed --remove", removed, json=json)
        return
    rows = users * conversations * messages
    ask(Plan(does=f"write {rows:,} messages of {users:,} made-up accounts.", undo="flask ops seed --remove"), yes=yes)
    with audited(by=operator(), action="seed.make", details={"users": users, "messages": rows}):
        made = make_seeds(users=users, conversations=conversations, messages=messages, days=days)
    tell("seed", made, json=json)
