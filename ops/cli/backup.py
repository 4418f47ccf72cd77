"""`flask ops backup`: create, verify, prune and restore backups."""

import click

from ops.cli.entry_points import LazyGroup

SUBCOMMANDS = {
    "create": ("ops.cli.backup_changes:create_backup", "Create a backup now and verify it."),
    "discard": (
        "ops.cli.backup_changes:discard_database",
        "Drop DATABASE, which a restore that was cut off has left.",
    ),
    "drill": (
        "ops.cli.backup_changes:drill_backup",
        "Restore the newest backup, or NAME, into a scratch database and compare all tables.",
    ),
    "list": ("ops.cli.backup_list:print_backups", "List all backups of the store, newest first."),
    "prune": (
        "ops.cli.backup_changes:prune_backups",
        "Delete the backups that BACKUP_KEEP_DAILY, _WEEKLY and _MONTHLY do not keep.",
    ),
    "restore": (
        "ops.cli.backup_changes:restore_backup",
        "Restore backup NAME into another database.",
    ),
    "restore-files": (
        "ops.cli.backup_files:restore_files_command",
        "Bring the contents of files that the store of files lacks back from backup NAME.",
    ),
    "status": (
        "ops.cli.backup_list:print_status",
        "Show the newest backup, the last drill, what a loss would cost now, and unfinished restores.",
    ),
    "switch": (
        "ops.cli.backup_changes:switch_database",
        "Replace the current database by the restored DATABASE; the current one is kept under another name.",
    ),
    "verify": (
        "ops.cli.backup_changes:verify_backup",
        "Verify the newest backup, or NAME, against its manifest, without restoring it.",
    ),
}


@click.group("backup", cls=LazyGroup, subcommands=SUBCOMMANDS)
def backup() -> None:
    """Back up, verify, restore, and prune backups."""
