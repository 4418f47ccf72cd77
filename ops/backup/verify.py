"""Looking at a backup without restoring it: whole, unchanged, as its manifest says. Only a drill proves more."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ops.backup.create import checked
from ops.backup.errors import Damaged
from ops.backup.inventory import Backup, Inventory
from ops.backup.reports import keep_report
from ops.backup.stores.base import Store

PROVES = "that the dump is the one that was taken; whether it can be restored, only `flask ops backup drill` proves"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came of one backup; `ok` if there are no `problems`. `proves` says how much that is."""

    name: str
    place: str
    ok: bool
    problems: tuple[str, ...]
    bytes: int
    seconds: float
    proves: str = PROVES


def verify(
    *, store: Store, name: str | None = None, source: str | None = None, everything: bool = False
) -> list[Verified]:
    """Read the newest backup (of `source`), the one of that `name`, or all, and compare them with their manifests.

    Each result is kept beside its backup. Raises `NoSuchBackup`, and `StoreFailed` where nothing can be said.
    """
    inventory = Inventory.of(store)
    chosen = list(inventory.backups) if everything and inventory.backups else [inventory.find(name, source=source)]
    return [_verify(inventory, backup) for backup in chosen]


def look_into(inventory: Inventory, backup: Backup) -> list[str]:
    """Read the dump, and say what is wrong: nothing, or one thing. Raises `StoreFailed`."""
    try:
        manifest = inventory.manifest(backup)
        if backup.dump is None:
            return [f"{backup.name} has a manifest, and no dump: somebody removed it."]
        for _ in checked(inventory.store, backup.dump.name, manifest.dump, title=f"Reading {backup.name}"):
            pass
    except Damaged as error:
        return [error.detail]
    return []


def _verify(inventory: Inventory, backup: Backup) -> Verified:
    started = time.monotonic()
    problems = look_into(inventory, backup)
    found = Verified(
        name=backup.name.text,
        place=inventory.store.place,
        ok=not problems,
        problems=tuple(problems),
        bytes=backup.dump.size if backup.dump else 0,
        seconds=round(time.monotonic() - started, 3),
    )
    now = datetime.now(UTC)
    keep_report(inventory.store, found.name, "verify", ok=found.ok, at=now, details=asdict(found))
    return found
