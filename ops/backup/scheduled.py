"""The backup jobs. A bad result raises an error, so that the run is recorded as failed with the reason."""

from dataclasses import dataclass
from datetime import datetime

from app.container import current_settings
from app.database import direct_connection
from app.metrics.backups import LastDrill, record_backups
from app.storage.errors import StorageError
from ops.backup.contents import read_origin
from ops.backup.create import BackupReport, create
from ops.backup.drill import DrillReport, drill
from ops.backup.errors import BackupError, BackupsNotConfigured
from ops.backup.inventory import Inventory
from ops.backup.names import source_id
from ops.backup.prune import PruneReport, prune
from ops.backup.retention import CLOCK_TOLERANCE
from ops.backup.store import open_backup_store
from ops.backup.stored_reports import Report
from ops.backup.verify import VerifyReport, verify
from ops.errors import AlreadyRunning

# Of the hour that the job may run: the first copy of large files takes several days' runs.
FILE_SECONDS = 1_800


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyReport:
    """The new backup and the result of pruning. `prune_skipped` says why nothing was pruned."""

    created: BackupReport
    deleted: int = 0
    kept: int | None = None
    freed_bytes: int = 0
    prune_skipped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyAllReport:
    """The verified backups, all without a problem."""

    backups: tuple[VerifyReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStatus:
    """The backups of this database in the store. `newest` is the newest good backup, taken at `taken_at`.

    `drilled_at` and `drill_ok` are of the last drill. Without a store, `store` is null.
    """

    store: str | None
    backups: int
    newest: str | None
    taken_at: datetime | None
    drilled_at: datetime | None
    drill_ok: bool | None


def create_and_prune() -> DailyReport:
    """Create a backup, then prune, unless a drill is running: the next daily run prunes then.

    Raises `BackupError`, which says whether a backup was created, and `AlreadyRunning` if another one is running.
    """
    created = create(file_seconds=FILE_SECONDS)
    try:
        pruned: PruneReport = prune()
    except AlreadyRunning:
        return DailyReport(created=created, prune_skipped="a drill was running; the next daily backup prunes")
    except (BackupError, StorageError) as error:
        raise BackupError(f"{created.name} was created, but pruning failed: {error.detail}") from error
    if created.files_missing:
        raise BackupError(
            f"{created.name} was created, but {created.files_missing} of {created.files} contents of files are missing"
            f" in it: {created.files_problem}"
        )
    return DailyReport(created=created, deleted=pruned.deleted, kept=pruned.kept, freed_bytes=pruned.freed_bytes)


def drill_or_fail(*, name: str | None = None) -> DrillReport:
    """Drill the newest backup, or the named one. Raises `BackupError` if it finds a problem or cannot run."""
    report = drill(name=name)
    if not report.ok:
        raise BackupError(f"The drill of {report.name} failed: {'; '.join(report.problems)}")
    return report


def verify_or_fail(*, name: str | None = None, everything: bool = False, all_files: bool = False) -> VerifyAllReport:
    """Verify the newest backup, the named one, or all. Raises `BackupError` if one is damaged."""
    store = open_backup_store(current_settings())
    reports = verify(store=store, name=name, everything=everything, all_files=all_files)
    if damaged := [report for report in reports if not report.ok]:
        problems = "; ".join(f"{report.name}: {' '.join(report.problems)}" for report in damaged)
        raise BackupError(f"{len(damaged)} of {len(reports)} verified backups are damaged. {problems}")
    return VerifyAllReport(backups=tuple(reports))


def measure_backups() -> BackupStatus:
    """List the store and record the metrics. Raises `StorageUnavailable`; the metrics then keep their values."""
    try:
        store = open_backup_store(current_settings())
    except BackupsNotConfigured:
        return BackupStatus(store=None, backups=0, newest=None, taken_at=None, drilled_at=None, drill_ok=None)
    with direct_connection() as connection:
        origin = read_origin(connection)
    source = source_id(origin.system_identifier, origin.database)
    inventory = Inventory.load(store)
    own = [backup for backup in inventory.backups if backup.name.source == source]
    newest = inventory.newest_good(source, until=origin.taken_at + CLOCK_TOLERANCE)
    last = max(inventory.reports(own, "drill"), key=lambda report: report.stored_at, default=None)
    taken_at, size = (newest.name.taken_at, newest.dump.size) if newest and newest.dump else (None, 0)
    record_backups(taken_at.timestamp() if taken_at else 0.0, size, _as_metric(last))
    return BackupStatus(
        store=store.url,
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
