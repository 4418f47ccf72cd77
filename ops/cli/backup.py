"""`flask ops backup`: take, look at, prove, thin out and restore backups."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from app.database import said
from app.services.container import services
from ops.audit import audited
from ops.backup import listing
from ops.backup.create import create
from ops.backup.drill import drill
from ops.backup.errors import DrillBrokenOff, NoSuchBackup, StoreFailed
from ops.backup.prune import Pruned, prune
from ops.backup.restore import restore
from ops.backup.stores.opening import open_store
from ops.backup.switch import switch
from ops.backup.verify import PROVES, verify
from ops.cli.frame import Plan, ask, json_option, operator, ops, tell, yes_option
from ops.cli.rendering import size, table
from ops.findings import CannotJudge
from ops.levels import Level


@ops.group("backup")
def backup() -> None:
    """Backups that are proven."""


@backup.command("create")
@json_option
def create_backup(json: bool) -> None:
    """Back the database up now, and read the backup back."""
    with audited(by=operator(), action="backup.create") as notes:
        created = create()
        notes["name"] = created.name
    tell("backup create", created, json=json)


@backup.command("verify")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All backups in the store, not only the newest.")
@json_option
def verify_backup(name: str | None, everything: bool, json: bool) -> None:
    """Read the newest backup, or the one called NAME, and compare it with its manifest. Restores nothing."""
    if name and everything:
        raise click.UsageError("Give a name or --all, not both.")
    with _judging():
        found = verify(store=open_store(services().settings), name=name, everything=everything)
    shown = [{"name": each.name, "ok": each.ok, "bytes": size(each.bytes), "problems": each.problems} for each in found]

    def view(console: Console) -> None:
        table(console, shown)
        console.print(Text(f"That shows {PROVES}.", style="dim"))

    level = Level.OK if all(each.ok for each in found) else Level.CRITICAL
    tell("backup verify", found, json=json, level=level, view=view)


@backup.command("drill")
@click.argument("name", required=False)
@json_option
def drill_backup(name: str | None, json: bool) -> None:
    """Prove the newest backup, or the one called NAME: restore it into a scratch database and compare."""
    with _judging(), audited(by=operator(), action="backup.drill") as notes:
        found = drill(name=name)
        notes.update(name=found.name, ok=found.ok)
    tell("backup drill", found, json=json, level=Level.OK if found.ok else Level.CRITICAL)


@backup.command("prune")
@click.option("--dry-run", is_flag=True, help="Only show what would go and what would stay, and why.")
@yes_option
@json_option
def prune_backups(dry_run: bool, yes: bool, json: bool) -> None:
    """Remove the backups that BACKUP_KEEP_DAILY, _WEEKLY and _MONTHLY do not ask for."""
    with _judging():
        planned = prune(dry_run=True)
        if dry_run or not (planned.removed or planned.strays):
            tell("backup prune", planned, json=json, view=lambda console: _show(console, planned))
            return
        _show(Console(stderr=True, highlight=False), planned)
        ask(Plan(does=f"remove {planned.removed} backups from {planned.place}", undo="there is none"), yes=yes)
        with audited(by=operator(), action="backup.prune", on=planned.place) as notes:
            done = prune()
            notes["removed"] = [each.name for each in done.backups if not each.keep]
    tell("backup prune", done, json=json, view=lambda console: _summary(console, done))


@backup.command("list")
@json_option
def list_backups(json: bool) -> None:
    """Every backup in the store, the newest first, and what is known of it."""
    with _judging():
        tell("backup list", listing.backups(store=open_store(services().settings)), json=json)


@backup.command("restore")
@click.argument("name")
@click.option("--to", metavar="URL", help="An empty database. Leave its password out and set PGPASSWORD.")
@click.option("--into", metavar="DATABASE", help="A new database of this name, on the present server.")
@yes_option
@json_option
def restore_backup(name: str, to: str | None, into: str | None, yes: bool, json: bool) -> None:
    """Restore the backup called NAME. How that is done step by step: docs/restore.md."""
    if (to is None) == (into is None):
        raise click.UsageError("Give either --to or --into.")
    url = listing.database_url(to) if to else None
    where = url.render_as_string() if url else f"the new database {into}"
    ask(Plan(does=f"restore {name} into {where}", undo="drop that database; if it fails, nothing is in it"), yes=yes)
    with _judging():
        restored = restore(name=name, to=url.render_as_string(hide_password=False) if url else None, into=into)
    tell("backup restore", restored, json=json, level=Level.OK if restored.ok else Level.CRITICAL)


@backup.command("switch")
@click.argument("database")
@yes_option
@json_option
def switch_database(database: str, yes: bool, json: bool) -> None:
    """Let the restored DATABASE take the present one's place and name; the present one is kept under another."""
    undo = "the same again, with the name that the present one is kept under"
    ask(Plan(does=f"rename the present database, and {database} to its name", undo=undo), yes=yes)
    switched = switch(restored=database)
    try:  # in the database that counts from now on, which may be of a version before there was an audit
        with audited(by=operator(), action="backup.switch", on=database) as notes:
            notes["kept"] = switched.kept
    except DBAPIError as error:
        click.echo(f"parley: this could not be written to the audit: {said(error)}", err=True)
    tell("backup switch", switched, json=json)


@contextmanager
def _judging() -> Iterator[None]:
    """A store out of reach and a drill that was broken off say nothing about backups; a wrong name is a wrong call."""
    try:
        yield
    except (StoreFailed, DrillBrokenOff) as error:
        raise CannotJudge(error.detail) from error
    except NoSuchBackup as error:
        raise click.UsageError(error.detail) from None


def _show(console: Console, planned: Pruned) -> None:
    rows: list[dict[str, Any]] = [
        {"": "keep" if each.keep else "remove", "name": each.name, "size": size(each.bytes), "why": each.why}
        for each in planned.backups
    ]
    rows += [
        {"": "remove", "name": name, "size": "", "why": "left by a run that was cut off"} for name in planned.strays
    ]
    table(console, rows)
    _summary(console, planned)


def _summary(console: Console, pruned: Pruned) -> None:
    verb = "would be removed" if pruned.dry_run else "removed"
    console.print(f"{pruned.kept} kept, {pruned.removed} {verb}, {size(pruned.freed)} freed in {pruned.place}.")
