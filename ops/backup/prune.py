"""Removing the backups that need not be kept any more, and what runs that were cut off left behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.services.container import services
from ops.backup.contents import read_origin
from ops.backup.inventory import Backup, Inventory
from ops.backup.locks import KEEPING, alone
from ops.backup.names import BackupName, own_prefix, source_of
from ops.backup.retention import Candidate, Decision, decide
from ops.backup.stores.base import Entry
from ops.backup.stores.opening import open_store
from ops.progress import progress

STRAYS_KEPT = timedelta(days=2)  # longer than any dump takes, before one without a manifest counts as left behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One backup, and what was decided about it. `bytes` is all that it takes up."""

    name: str
    taken_at: datetime
    keep: bool
    why: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """`removed` backups are gone, or would be (`dry_run`), and with them `strays`; `freed` bytes in all."""

    place: str
    removed: int
    kept: int
    freed: int
    backups: tuple[Judged, ...]
    strays: tuple[str, ...]
    dry_run: bool


def prune(*, dry_run: bool = False) -> Pruned:
    """Keep what BACKUP_KEEP_... says, the newest good backup and the last one that a drill proved; remove the rest.

    Only of this database: others may share the store. Raises `StoreFailed`, `AnotherRunIsUnderWay`.
    """
    settings = services().settings
    store = open_store(settings)
    with alone(KEEPING, "A drill or another pruning") as connection:
        here = read_origin(connection)
        source = source_of(here.system_identifier, here.database)
        inventory = Inventory.of(store)
        own = {backup.name: backup for backup in inventory.backups if backup.name.source == source}
        decisions = decide((_candidate(inventory, each) for each in own.values()), settings.backups, here.taken_at)
        strays = [each for each in inventory.strays if _left_behind(each, source, here.taken_at)]
        doomed = [name for each in decisions if not each.keep for name in own[each.name].files]
        doomed += [stray.name for stray in strays]
        if not dry_run:
            with progress("Pruning", total=len(doomed)) as bar:
                for name in doomed:
                    store.remove(name)
                    bar.advance(note=name)
    return _report(store.place, decisions, own, strays, dry_run)


def _candidate(inventory: Inventory, backup: Backup) -> Candidate:
    drills = [report for report in inventory.reports([backup], "drill") if report.ok]
    drilled_at = max((report.stored_at for report in drills), default=None)
    return Candidate(backup.name, inventory.trouble(backup), drilled_at)


def _left_behind(entry: Entry, source: str, now: datetime) -> bool:
    return entry.name.startswith(own_prefix(source)) and now - entry.stored_at > STRAYS_KEPT


def _report(
    place: str, decisions: list[Decision], own: Mapping[BackupName, Backup], strays: list[Entry], dry_run: bool
) -> Pruned:
    gone = [decision for decision in decisions if not decision.keep]
    judged = [
        Judged(
            name=each.name.text, taken_at=each.name.taken_at, keep=each.keep, why=each.why, bytes=own[each.name].size
        )
        for each in decisions
    ]
    return Pruned(
        place=place,
        removed=len(gone),
        kept=len(decisions) - len(gone),
        freed=sum(own[each.name].size for each in gone) + sum(stray.size for stray in strays),
        backups=tuple(judged),
        strays=tuple(stray.name for stray in strays),
        dry_run=dry_run,
    )
