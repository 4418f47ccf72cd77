"""`flask ops backup list` and `status`."""

from app.container import current_settings
from ops.backup.listing import list_backups
from ops.backup.status import backup_status
from ops.backup.store import open_backup_store
from ops.cli.backup_errors import translated_errors
from ops.cli.base import command, json_option, print_report


@command("list")
@json_option
def print_backups(json: bool) -> None:
    """List all backups of the store, newest first."""
    with translated_errors():
        print_report("backup list", list_backups(store=open_backup_store(current_settings())), json=json)


@command("status")
@json_option
def print_status(json: bool) -> None:
    """Show the newest backup, the last drill, what a loss would cost now, and unfinished restores."""
    with translated_errors():
        print_report("backup status", backup_status(current_settings()), json=json)
