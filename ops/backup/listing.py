"""The backups there are, as people look at them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.config import Settings
from app.errors import InvalidInput
from ops.backup.errors import Damaged, NotSetUp
from ops.backup.inventory import Backup, Inventory
from ops.backup.stores.base import Store
from ops.backup.stores.opening import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One backup. `state` is `good` as far as is known, or what is wrong; `drilled` what a drill last found, and when.

    `database` is None where the manifest cannot be read.
    """

    name: str
    taken_at: datetime
    database: str | None
    server_version: str | None
    rows: int | None
    bytes: int
    alembic: tuple[str, ...]
    state: str
    drilled: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Every backup in the store at `place`, the newest first. Where no place is set, `reason` says what to set."""

    place: str | None
    items: tuple[Listed, ...]
    reason: str | None = None


def listing(settings: Settings) -> Listing:
    """What there is, for whoever has no time to wait for a slow store. Raises `StoreFailed`."""
    try:
        store = open_store(settings, hasty=True)
    except NotSetUp as error:
        return Listing(place=None, items=(), reason=error.detail)
    return Listing(place=store.place, items=tuple(backups(store=store)))


def backups(*, store: Store) -> list[Listed]:
    """All backups in the store, the newest first, whoever's they are. Raises `StoreFailed`."""
    inventory = Inventory.of(store)
    return [_listed(inventory, backup) for backup in inventory.backups]


def database_url(text: str) -> URL:
    """A PostgreSQL URL as this process drives it. Raises `InvalidInput` without telling what was given."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        try:
            url = make_url(f"postgresql+psycopg2://{rest}")
        except (ArgumentError, ValueError):
            url = None
        if url is not None and url.database:
            return url
    raise InvalidInput("The URL must look like postgresql://user@host:port/database.")


def _listed(inventory: Inventory, backup: Backup) -> Listed:
    try:
        manifest = inventory.manifest(backup)
    except Damaged:
        manifest = None
    drills = inventory.reports([backup], "drill")
    drilled = f"{'ok' if drills[0].ok else 'failed'}, {drills[0].at:%Y-%m-%d %H:%M}" if drills else None
    return Listed(
        name=backup.name.text,
        taken_at=backup.name.taken_at,
        database=manifest.origin.database if manifest else None,
        server_version=manifest.origin.server_version if manifest else None,
        rows=manifest.rows if manifest else None,
        bytes=backup.dump.size if backup.dump else 0,
        alembic=manifest.contents.alembic if manifest else (),
        state=inventory.trouble(backup) or "good",
        drilled=drilled,
    )
