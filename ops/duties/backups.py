"""Backups: what the store holds, and what the last drill proved. Whether that is enough is for the checks to say."""

from dataclasses import dataclass
from datetime import datetime

from ops.backup.contents import read_origin
from ops.backup.errors import NotSetUp
from ops.backup.inventory import Backup, Inventory
from ops.backup.names import source_of
from ops.backup.retention import AHEAD
from ops.backup.stores.opening import open_store
from ops.checks.probe import Probe
from ops.duties.parts import Told
from ops.findings import CannotJudge
from ops.words import size


@dataclass(frozen=True, slots=True)
class _Own:
    """This database's backups among those of the store, `until` when one can have been taken."""

    inventory: Inventory
    source: str
    backups: list[Backup]
    until: datetime


def last_backup(probe: Probe) -> Told:
    """The newest good one, and how many there are."""
    own = _own(probe)
    newest = own.inventory.newest_good(own.source, until=own.until)
    place = own.inventory.store.place
    if newest is None:
        return Told(says=f"{place} holds no good backup of this database", figures={"backups": len(own.backups)})
    return Told(
        says=f"{newest.name.text} has {size(newest.size)}; there are {len(own.backups)} in all",
        figures={
            "newest": newest.name.text,
            "taken_at": newest.name.taken_at,
            "bytes": newest.size,
            "backups": len(own.backups),
            "place": place,
        },
    )


def last_drill(probe: Probe) -> Told:
    """The last restore drill: what it proved, how long it took, and how much would have been lost."""
    own = _own(probe)
    last = max(own.inventory.reports(own.backups, "drill"), key=lambda report: report.stored_at, default=None)
    if last is None:
        return Told(says="no backup has been drilled yet", figures={"backups": len(own.backups)})
    problems = f": {'; '.join(last.problems)}" if last.problems else ""
    measured = {name: value for name in ("rto_seconds", "rpo_seconds") if (value := last.number(name)) is not None}
    return Told(
        says=f"the drill of {last.at:%Y-%m-%d %H:%M} UTC {'proved its backup' if last.ok else 'found fault'}{problems}",
        figures={"at": last.at, **measured},
    )


def _own(probe: Probe) -> _Own:
    """Raises `CannotJudge` where no backups are set up, and `StoreFailed`."""
    try:
        store = open_store(probe.settings)
    except NotSetUp as error:
        raise CannotJudge(error.detail) from error
    here = read_origin(probe.connection)
    inventory = Inventory.of(store)
    source = source_of(here.system_identifier, here.database)
    return _Own(
        inventory, source, [each for each in inventory.backups if each.name.source == source], here.taken_at + AHEAD
    )
