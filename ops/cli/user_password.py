"""`flask ops user reset-password`."""

import click

from app.container import current_settings
from ops.cli.actions import operator
from ops.cli.base import command, json_option, print_report, user_argument
from ops.runs.audit import audited
from ops.users import password_resets, users


@command("reset-password")
@user_argument
@click.option("--minutes", type=click.IntRange(5, 1440), help="Validity; the default is PASSWORD_RESET_MINUTES.")
@json_option
def reset_password(user_key: str, minutes: int | None, json: bool) -> None:
    """Print a token with which a user sets a new password, once. Hand it over; it is not shown again."""
    user_id = users.find_id(user_key)
    minutes = minutes or current_settings().mail.reset_minutes
    with audited(
        actor=operator(), action="user.issue_password_reset", target=str(user_id), details={"minutes": minutes}
    ):
        issued = password_resets.issue(user_id=user_id, minutes=minutes)
    print_report("user reset-password", issued, json=json)
