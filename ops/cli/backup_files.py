"""`flask ops backup restore-files`."""

import click

from ops.backup.file_restore import restore_files
from ops.cli.actions import operator
from ops.cli.backup_errors import translated_errors
from ops.cli.base import command, json_option, print_report
from ops.levels import Level
from ops.runs.audit import audited


@command("restore-files")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Count what would be copied, without copying.")
@json_option
def restore_files_command(name: str, dry_run: bool, json: bool) -> None:
    """Bring the contents of files that the store of files lacks back from backup NAME. It can be repeated."""
    with translated_errors(), audited(actor=operator(), action="backup.restore_files", target=name) as notes:
        restored = restore_files(name=name, dry_run=dry_run)
        notes.update(ok=restored.ok, restored=restored.restored)
    level = Level.OK if restored.ok else Level.CRITICAL
    print_report("backup restore-files", restored, json=json, level=level)
