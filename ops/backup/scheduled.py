"""Backups as the clock asks for them: what does not end well is a failed run, with the reason."""

from dataclasses import dataclass
from datetime import datetime

from app.database import direct_connection
from app.metrics.backups import LastDrill, record_backups
from app.services.container import services
from ops.backup.contents import read_origin
from ops.backup.create import Created, create
from ops.backup.drill import Drilled, drill
from ops.backup.errors import BackupError, NotSetUp
from ops.backup.inventory import Inventory
from ops.backup.names import source_of
from ops.backup.prune import Pruned, prune
from ops.backup.reports import Report
from ops.backup.retention import AHEAD
from ops.backup.stores.opening import open_store
from ops.backup.verify import Verified, verify
from ops.errors import AnotherRunIsUnderWay


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """The backup that was taken, and how many went afterwards; none where `not_pruned` says why."""

    created: Created
    removed: int = 0
    kept: int | None = None
    freed: int = 0
    not_pruned: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The backups that were read, each as its manifest says."""

    backups: tuple[Verified, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the store holds of this database. `newest` is the newest good backup, `drilled_at` the last drill's time."""

    place: str | None
    backups: int
    newest: str | None
    taken_at: datetime | None
    drilled_at: datetime | None
    drill_ok: bool | None


def daily() -> Daily:
    """Take a backup, then remove those that need not be kept, unless a drill reads them just now: tomorrow will do.

    Raises `BackupError`, which says whether a backup was taken, and `AnotherRunIsUnderWay` where somebody takes one.
    """
    created = create()
    try:
        pruned: Pruned = prune()
    except AnotherRunIsUnderWay:
        return Daily(created=created, not_pruned="a drill was under way; the next backup prunes")
    except BackupError as error:
        raise BackupError(f"{created.name} was taken, but the old ones could not be pruned: {error.detail}") from error
    return Daily(created=created, removed=pruned.removed, kept=pruned.kept, freed=pruned.freed)


def weekly_drill(*, name: str | None = None) -> Drilled:
    """Prove the newest backup, or the one of that `name`.

    Raises `BackupError` where the drill found something wrong, or could not be done.
    """
    found = drill(name=name)
    if not found.ok:
        raise BackupError(f"The drill of {found.name} found: {'; '.join(found.problems)}")
    return found


def verify_asked(*, name: str | None = None, everything: bool = False) -> Looked:
    """Read the newest backup, the one of that `name`, or all. Raises `BackupError` where something is wrong."""
    found = verify(store=open_store(services().settings), name=name, everything=everything)
    if bad := [each for each in found if not each.ok]:
        told = "; ".join(f"{each.name}: {' '.join(each.problems)}" for each in bad)
        raise BackupError(f"The verify found {len(bad)} of {len(found)} backups not as they were taken. {told}")
    return Looked(backups=tuple(found))


def observe() -> Observed:
    """Read from the store what there is, for the metrics. Raises `StoreFailed`; the metrics then stay as they were."""
    try:
        store = open_store(services().settings)
    except NotSetUp:
        return Observed(place=None, backups=0, newest=None, taken_at=None, drilled_at=None, drill_ok=None)
    with direct_connection() as connection:
        here = read_origin(connection)
    source = source_of(here.system_identifier, here.database)
    inventory = Inventory.of(store)
    own = [backup for backup in inventory.backups if backup.name.source == source]
    newest = inventory.newest_good(source, until=here.taken_at + AHEAD)
    last = max(inventory.reports(own, "drill"), key=lambda report: report.stored_at, default=None)
    taken_at, size = (newest.name.taken_at, newest.dump.size) if newest and newest.dump else (None, 0)
    record_backups(taken_at.timestamp() if taken_at else 0.0, size, _as_metric(last))
    return Observed(
        place=store.place,
        backups=len(own),
        newest=newest.name.text if newest else None,
        taken_at=taken_at,
        drilled_at=last.at if last else None,
        drill_ok=last.ok if last else None,
    )


def _as_metric(report: Report | None) -> LastDrill | None:
    if report is None:
        return None
    return LastDrill(
        began=report.at.timestamp(),
        ok=report.ok,
        rto=report.number("rto_seconds") or 0.0,
        rpo=report.number("rpo_seconds"),
    )
