"""`flask ops backup create`, `verify`, `drill`, `prune`, `restore` and `switch`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.container import current_settings
from app.database import driver_message
from ops.backup.create import create
from ops.backup.drill import drill
from ops.backup.prune import PruneReport, prune
from ops.backup.restore import parse_database_url, restore
from ops.backup.scheduled import DailyReport, VerifyAllReport
from ops.backup.store import open_backup_store
from ops.backup.switch import discard, switch
from ops.backup.verify import PROVES, verify
from ops.catalogue.jobs import BACK_UP, DRILL, PRUNE_BACKUPS, VERIFY_BACKUPS
from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.backup_errors import translated_errors
from ops.cli.base import command, json_option, print_report, yes_option
from ops.cli.rendering import report_console, table
from ops.formatting import format_size
from ops.levels import Level
from ops.runs.audit import audited
from ops.runs.run import recorded_command


@command("create")
@json_option
def create_backup(json: bool) -> None:
    """Create a backup now and verify it."""
    with audited(actor=operator(), action="backup.create") as notes, recorded_command(BACK_UP) as record:
        created = create()
        record(DailyReport(created=created, prune_skipped="the command only creates a backup"))
        notes["name"] = created.name
    level = Level.WARNING if created.files_missing else Level.OK
    print_report("backup create", created, json=json, level=level)


@command("verify")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Verify all backups of the store.")
@click.option("--all-files", is_flag=True, help="Read all contents of files, not only a random sample.")
@json_option
def verify_backup(name: str | None, everything: bool, all_files: bool, json: bool) -> None:
    """Verify the newest backup, or NAME, against its manifest, without restoring it."""
    if name and everything:
        raise click.UsageError("Pass either a name or --all, not both.")
    with translated_errors(), recorded_command(VERIFY_BACKUPS) as record:
        store = open_backup_store(current_settings())
        results = verify(store=store, name=name, everything=everything, all_files=all_files)
        if all(result.ok for result in results):
            record(VerifyAllReport(backups=tuple(results)))
    rows = [
        {
            "name": result.name,
            "ok": result.ok,
            "bytes": format_size(result.bytes),
            "files": f"{result.files:,} ({result.files_hashed:,} hashed, {result.files_missing:,} missing)",
            "problems": result.problems,
        }
        for result in results
    ]

    def view(console: Console) -> None:
        table(console, rows)
        console.print(Text(f"This proves: {PROVES}.", style="dim"))

    level = Level.OK if all(result.ok for result in results) else Level.CRITICAL
    print_report("backup verify", results, json=json, level=level, view=view)


@command("drill")
@click.argument("name", required=False)
@json_option
def drill_backup(name: str | None, json: bool) -> None:
    """Restore the newest backup, or NAME, into a scratch database and compare all tables."""
    with translated_errors(), audited(actor=operator(), action="backup.drill") as notes:
        with recorded_command(DRILL) as record:
            report = drill(name=name)
            if report.ok:
                record(report)
        notes.update(name=report.name, ok=report.ok)
    print_report("backup drill", report, json=json, level=Level.OK if report.ok else Level.CRITICAL)


@command("prune")
@click.option("--dry-run", is_flag=True, help="Show which backups would be kept and deleted, without deleting.")
@yes_option
@json_option
def prune_backups(dry_run: bool, yes: bool, json: bool) -> None:
    """Delete the backups that BACKUP_KEEP_DAILY, _WEEKLY and _MONTHLY do not keep."""
    with translated_errors(), recorded_command(PRUNE_BACKUPS) as record:
        planned = prune(dry_run=True)
        if dry_run or not (planned.deleted or planned.orphans or planned.file_contents):
            if not dry_run:
                record(replace(planned, dry_run=False))
            print_report("backup prune", planned, json=json, view=lambda console: _print_backups(console, planned))
            return
        _print_backups(report_console(stderr=True), planned)
        confirm(ChangePlan(summary=_deletions(planned), undo="none"), yes=yes)
        with audited(actor=operator(), action="backup.prune", target=planned.store) as notes:
            pruned = prune()
            record(pruned)
            notes["deleted"] = [backup.name for backup in pruned.backups if not backup.keep]
    print_report("backup prune", pruned, json=json, view=lambda console: _print_summary(console, pruned))


@command("restore")
@click.argument("name")
@click.option("--to", metavar="URL", help="Restore into this empty database. Pass the password in PGPASSWORD.")
@click.option("--into", metavar="DATABASE", help="Restore into a new database with this name on the current server.")
@yes_option
@json_option
def restore_backup(name: str, to: str | None, into: str | None, yes: bool, json: bool) -> None:
    """Restore backup NAME into another database. Follow docs/restore.md."""
    if (to is None) == (into is None):
        raise click.UsageError("Pass either --to or --into.")
    url = parse_database_url(to) if to else None
    target = url.render_as_string() if url else f"the new database {into}"
    confirm(
        ChangePlan(summary=f"restore {name} into {target}", undo="drop that database; after a failure it is empty"),
        yes=yes,
    )
    with translated_errors(), _audited_if_possible("backup.restore", name, {"into": target}) as notes:
        restored = restore(name=name, to=url.render_as_string(hide_password=False) if url else None, into=into)
        notes["ok"], notes["rows"] = restored.ok, restored.rows
    print_report("backup restore", restored, json=json, level=Level.OK if restored.ok else Level.CRITICAL)


@command("switch")
@click.argument("database")
@yes_option
@json_option
def switch_database(database: str, yes: bool, json: bool) -> None:
    """Replace the current database by the restored DATABASE; the current one is kept under another name."""
    undo = "run the command again with the name under which the current database is kept"
    confirm(ChangePlan(summary=f"rename the current database, and {database} to its name.", undo=undo), yes=yes)
    switched = switch(restored=database)
    try:  # recorded in the restored database, which may be older than the audit
        with audited(actor=operator(), action="backup.switch", target=database) as notes:
            notes["kept"] = switched.kept
    except DBAPIError as error:
        click.echo(f"parley: the audit entry could not be written: {driver_message(error)}", err=True)
    print_report("backup switch", switched, json=json)


@command("discard")
@click.argument("database")
@yes_option
@json_option
def discard_database(database: str, yes: bool, json: bool) -> None:
    """Drop DATABASE, which a restore that was cut off has left. Other databases are refused."""
    confirm(ChangePlan(summary=f"drop the database {database}", undo="none; the backup stays"), yes=yes)
    with audited(actor=operator(), action="backup.discard", target=database) as notes:
        discarded = discard(database=database)
        notes["backup"] = discarded.backup
    print_report("backup discard", discarded, json=json)


@contextmanager
def _audited_if_possible(action: str, target: str, details: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Audit the block; without the present database, whose loss is a reason to restore, only say that it cannot be."""
    with ExitStack() as stack:
        try:
            notes = stack.enter_context(audited(actor=operator(), action=action, target=target, details=details))
        except SQLAlchemyError as error:
            reason = driver_message(error) if isinstance(error, DBAPIError) else type(error).__name__
            click.echo(f"parley: not audited, because the present database does not answer: {reason}", err=True)
            notes = {}
        yield notes


def _print_backups(console: Console, planned: PruneReport) -> None:
    rows: list[dict[str, Any]] = [
        {
            "": "keep" if backup.keep else "delete",
            "name": backup.name,
            "size": format_size(backup.bytes),
            "reason": backup.reason,
        }
        for backup in planned.backups
    ]
    rows += [{"": "delete", "name": name, "size": "", "reason": "left by an aborted run"} for name in planned.orphans]
    table(console, rows)
    _print_summary(console, planned)


def _deletions(planned: PruneReport) -> str:
    files = f" and {planned.file_contents} contents of files" if planned.file_contents else ""
    return f"delete {planned.deleted} backups{files} from {planned.store}"


def _print_summary(console: Console, pruned: PruneReport) -> None:
    verb = "would be deleted" if pruned.dry_run else "deleted"
    console.print(
        f"{pruned.kept} kept, {pruned.deleted} {verb}, {format_size(pruned.freed_bytes)} freed in {pruned.store}."
    )
    if pruned.file_contents:
        console.print(f"{pruned.file_contents} contents of files {verb}, because no kept backup lists them.")
    if pruned.file_contents_kept:
        console.print(Text(f"No contents of files {verb}: {pruned.file_contents_kept}", style="dim"))
