"""`flask ops database`: the settings of the role in the database."""

import click

from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import group, json_option, print_report, yes_option
from ops.maintenance.role_settings import RoleSettings, plan_role_settings, write_role_settings
from ops.runs.audit import audited


@group("database")
def database() -> None:
    """Prepare the database's role for a pooler."""


@database.command("settings")
@click.option("--dry-run", is_flag=True, help="Only show what would be written.")
@yes_option
@json_option
def settings(dry_run: bool, yes: bool, json: bool) -> None:
    """Write the settings that Parley relies on for its role in its database, for connections through a pooler.

    They apply to new connections of the server: let the pooler reconnect afterwards.
    """
    plan = plan_role_settings()
    if dry_run or not plan.changes:
        print_report("database settings", plan, json=json)
        return
    confirm(_change(plan), yes=yes)
    with audited(actor=operator(), action="database.settings", target=plan.role) as notes:
        report = write_role_settings()
        notes["settings"] = {change.name: change.expected for change in report.changes}
    print_report("database settings", report, json=json)
    click.echo("Let the pooler open new connections to the server; in PgBouncer: RECONNECT.", err=True)


def _change(plan: RoleSettings) -> ChangePlan:
    statements = "\n       ".join(f"{change.sql}; -- was {change.now or 'the default'}" for change in plan.changes)
    reset = "; ".join(f"{change.sql.partition(' SET ')[0]} RESET {change.name}" for change in plan.changes)
    return ChangePlan(
        summary=f"write {len(plan.changes)} settings for new sessions of {plan.role} in {plan.database}:\n"
        f"       {statements}",
        undo=reset,
    )
