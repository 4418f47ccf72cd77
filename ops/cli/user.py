"""`flask ops user`: users, their roles, quotas and data."""

import click

from ops.cli.entry_points import LazyGroup

SUBCOMMANDS = {
    "create": ("ops.cli.user_account:create", "Create a user."),
    "disable": ("ops.cli.user_account:disable", "Disable a user: no login, no API key; the data stays."),
    "enable": ("ops.cli.user_account:enable", "Enable a disabled user."),
    "erase": ("ops.cli.user_data:erase", "Erase a user with all their data, permanently, and write a receipt."),
    "erasures": ("ops.cli.user_list:list_erasures", "List the receipts of erasures, newest first."),
    "export": (
        "ops.cli.user_data:export",
        "Write all data of a user to a ZIP file.",
    ),
    "list": ("ops.cli.user_list:list_users", "List users, newest first."),
    "logout": ("ops.cli.user_account:logout", "End all sessions of a user."),
    "promote": ("ops.cli.user_account:promote", "Change the role of a user."),
    "quota": ("ops.cli.user_account:quota", "Show or set the daily token quota of a user."),
    "storage": ("ops.cli.user_account:storage", "Show or limit the bytes that a user stores."),
    "read": (
        "ops.cli.user_data:read",
        "Print a conversation of a user.",
    ),
    "reset-password": (
        "ops.cli.user_password:reset_password",
        "Print a token with which a user sets a new password, once.",
    ),
    "show": ("ops.cli.user_list:show", "Show a user with the number of their objects."),
}


@click.group("user", cls=LazyGroup, subcommands=SUBCOMMANDS)
def user() -> None:
    """Manage users, their quotas and their data."""
