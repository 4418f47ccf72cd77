"""Free disk space, and how long it lasts."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from app.repositories.statement import Statement
from app.services.storage_room import free_bytes
from app.storage.disks import disk_usage
from app.storage.folder import FolderStore
from ops.backup.store import open_backup_store
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.encryption import peer_address, socket_of
from ops.errors import UnknownState
from ops.formatting import format_size
from ops.levels import Level
from ops.stats.counters import database_bytes
from ops.stats.growth import table_growth

LOW, VERY_LOW = 0.15, 0.05  # free share of a disk
LOW_BYTES, VERY_LOW_BYTES = 2 * 2**30, 512 * 2**20  # free bytes; on a small disk the shares warn too late
ENOUGH_BYTES = 100 * 2**30  # free bytes that are enough on a disk of any size
SMALL = 2**30  # bytes; the growth of a smaller database is not reported
WINDOW = timedelta(weeks=1)
SOON, VERY_SOON = timedelta(days=30), timedelta(days=7)  # until the disk is full
STARTED_WITHIN = 60  # seconds between the times in postmaster.pid and pg_postmaster_start_time
FAST = 0.5  # growth per week, as a share of the size

NEAR = 4  # times DATABASE_MIN_FREE_BYTES, below which a warning is due
NEAR_FULL = 0.9  # of DATABASE_MAX_BYTES, from which a warning is due

FOLDER = Statement(
    "ops.data_folder",
    """
SELECT current_setting('data_directory', true) AS folder, (SELECT count(*) FROM pg_tablespace) AS tablespaces,
       extract(epoch FROM pg_postmaster_start_time())::int8 AS started_at""",
)


@check("storage.disk", "Is there enough free disk space?", severity=Level.CRITICAL)
def disk(context: CheckContext) -> Iterator[Finding]:
    """Check the disks of PARLEY_HOME, of BACKUP_URL if it is a folder, and of the database.

    Raises `UnknownState` for a database on another host.
    """
    yield from _check_disk("PARLEY_HOME", context.settings.server.home)
    if (backups := _backup_folder(context)) is not None:
        yield from _check_disk("BACKUP_URL", backups)
    yield from _check_disk("The database", data_folder(context))


@check("storage.room", "Has the database room for new messages?", severity=Level.CRITICAL)
def room(context: CheckContext) -> Iterator[Finding]:
    """Compare the free space and the size of the database with the limits at which new turns are refused."""
    settings = context.settings.database
    free = free_bytes(settings.folder)
    if free is not None and free < NEAR * settings.min_free_bytes:
        yield _little_room(
            free < settings.min_free_bytes,
            f"The database's disk has {format_size(free)} left, and DATABASE_MIN_FREE_BYTES is"
            f" {format_size(settings.min_free_bytes)}",
            {"free": free, "DATABASE_MIN_FREE_BYTES": settings.min_free_bytes},
        )
    if not settings.max_bytes:
        return
    size = database_bytes(context.connection)
    if size >= settings.max_bytes * NEAR_FULL:
        yield _little_room(
            size >= settings.max_bytes,
            f"The database has {format_size(size)}, and DATABASE_MAX_BYTES is {format_size(settings.max_bytes)}",
            {"size": size, "DATABASE_MAX_BYTES": settings.max_bytes},
        )


def _little_room(is_full: bool, message: str, evidence: Mapping[str, int]) -> Finding:
    return Finding(
        object=next(name for name in evidence if name.startswith("DATABASE_")),
        level=Level.CRITICAL if is_full else Level.WARNING,
        message=f"{message}: new turns and imports are refused{'' if is_full else ' soon'}.",
        evidence=dict(evidence),
        remedy="Can space be freed (flask ops growth --weeks 4, flask ops archive plan), or the limit be raised?",
    )


@check("storage.growth", "Will the disk last another month at the current growth?", severity=Level.CRITICAL)
def growth(context: CheckContext) -> Iterator[Finding]:
    """Check the growth of the last week, and when the disk is full at that rate."""
    total = database_bytes(context.connection)
    if total < SMALL:
        return
    now = context.now
    report = table_growth(context.connection, since=now - WINDOW, now=now)
    largest = report.tables[0] if report.tables else None
    evidence = {
        "database": format_size(total),
        "grown": format_size(report.grown_bytes),
        "days": report.days,
        "per_day": format_size(report.bytes_per_day),
        "largest": None if largest is None else f"{largest.table} {format_size(largest.grown_bytes)}",
    }
    before = total - report.grown_bytes
    if before > 0 and report.grown_bytes / before / report.days * 7 >= FAST:
        yield Finding(
            level=Level.WARNING,
            message=f"The database grew by {format_size(report.grown_bytes)} in {report.days:.1f} days"
            + (f", {largest.table} most." if largest else "."),
            object="growth",
            evidence=evidence,
            remedy="Which table grows (flask ops growth --weeks 4), and is it old data (flask ops archive plan)?",
        )
    if report.bytes_per_day > 0:
        free = disk_usage(data_folder(context)).free
        left = timedelta(days=min(free / report.bytes_per_day, 36_500))
        if left <= SOON:
            yield Finding(
                level=Level.CRITICAL if left <= VERY_SOON else Level.WARNING,
                message=f"The database's disk is full in {left.days} days at the rate of the last {report.days:.1f}.",
                object="disk",
                evidence={**evidence, "free": format_size(free)},
                remedy="Can space be freed (flask ops growth --weeks 4, flask ops archive plan), or the disk enlarged?",
            )


def data_folder(context: CheckContext) -> Path:
    """Return the database's data directory. Raises `UnknownState` if it is on another host or cannot be read."""
    if not is_local(context):
        raise UnknownState(
            "The database runs on another host, whose disk cannot be read from here.",
            remedy="On that host: df -h; or an alert on its disk",
        )
    row = FOLDER.one(context.connection, {})
    if row is None or not row.folder:
        raise UnknownState(
            "This role may not read the path of the database's files.",
            remedy="GRANT pg_read_all_settings TO the role of DATABASE_DIRECT_URL",
        )
    folder = Path(row.folder)
    try:
        started_at = int((folder / "postmaster.pid").read_text().splitlines()[2])
    except (OSError, ValueError, IndexError) as error:
        raise UnknownState(
            f"The database's folder {folder} cannot be read by this process ({type(error).__name__}).",
            remedy=f"As a system user that may read it: df -h {folder}",
        ) from None
    if abs(started_at - row.started_at) > STARTED_WITHIN:
        raise UnknownState(
            f"The folder {folder} on this host belongs to another server.", remedy="On the database's host: df -h"
        )
    return folder


def is_local(context: CheckContext) -> bool:
    """Return whether the connection's peer is on this host; a tunnel may still forward it to another one."""
    peer = peer_address(socket_of(context.connection))
    return peer is None or peer in ("127.0.0.1", "::1")


def _backup_folder(context: CheckContext) -> Path | None:
    """Return the folder of the backups; None for other stores, and for the one in PARLEY_HOME."""
    if context.settings.backups.url is None:
        return None
    store = open_backup_store(context.settings, quick=True)
    return store.folder if isinstance(store, FolderStore) else None


def _check_disk(owner: str, folder: Path) -> Iterator[Finding]:
    usage = disk_usage(folder)
    share = usage.free / (usage.free + usage.used)  # not of the total, because some systems reserve a part for root
    if usage.free >= ENOUGH_BYTES or (share >= LOW and usage.free >= LOW_BYTES):
        return
    is_critical = share < VERY_LOW or usage.free < VERY_LOW_BYTES
    yield Finding(
        level=Level.CRITICAL if is_critical else Level.WARNING,
        message=f"{owner} has {format_size(usage.free)} left on its disk, {share:.0%} of it.",
        object=owner,
        evidence={"folder": str(usage.folder), "free": format_size(usage.free), "total": format_size(usage.total)},
        remedy=f"What uses it? du -xh {usage.folder} | sort -h | tail; flask ops growth --weeks 4",
    )
