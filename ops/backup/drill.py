"""The restore drill: a backup is restored into a scratch database and compared with its manifest."""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from app.config import Settings
from app.container import current_settings
from ops.backup.comparison import find_differences, without_skipped
from ops.backup.contents import OUTPUT_SETTINGS, read_contents, read_origin
from ops.backup.create import read_dump
from ops.backup.errors import BackupDamaged, BackupKeyUnusable, DrillAborted, RestoreFailed
from ops.backup.file_checks import check_files
from ops.backup.integrity import find_broken_indexes, find_orphan_rows
from ops.backup.inventory import Backup, Inventory
from ops.backup.locks import STORE_LOCK, backup_lock
from ops.backup.manifest import Manifest, Origin
from ops.backup.names import source_id
from ops.backup.plain_dumps import copy_plain, identities_of
from ops.backup.programs import find_programs
from ops.backup.restoring import Skipped, restore_dump
from ops.backup.retention import CLOCK_TOLERANCE
from ops.backup.scratch import SIZE, check_disk_space, drill_server, drop_leftovers, scratch_database
from ops.backup.store import open_backup_store
from ops.backup.stored_reports import limit_problems, store_report
from ops.backup.target import Target
from ops.backup.verify import check_dump

# Errors of pg_restore that the server causes, not the backup: it stopped, ended the session, or its disk is full.
_SERVER_ERRORS = re.compile(
    r"closed the connection|terminating connection|connection to (?:the )?server|database system is|could not (?:send|"
    r"receive) data|No space left|could not extend file|canceling statement|ended by the signal"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a drill. `result` is `ok`, `failed`, or the reason why it could not be checked."""

    step: str
    result: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """The result of a drill. `ok`: no problems.

    `rto_seconds` is the time to restore and compare the data. `rpo_seconds` is the age of the newest restored message,
    or null without messages; `snapshot_age_seconds` is the largest possible data loss. `skipped` names the
    objects that the role could not create on the server of the drill. Of the `files`, the contents of users' files, all
    copies are present, and `files_hashed` of them, a random sample, were read.
    """

    name: str
    store: str
    ok: bool
    problems: tuple[str, ...]
    steps: tuple[Step, ...]
    began_at: datetime
    rto_seconds: float
    rpo_seconds: float | None
    snapshot_age_seconds: float
    tables: int
    rows: int
    alembic: tuple[str, ...]
    restored_on: str
    leftovers_dropped: int
    skipped: tuple[str, ...] = ()
    files: int = 0
    files_hashed: int = 0


def drill(*, name: str | None = None) -> DrillReport:
    """Restore the newest backup of this database, or the named one, and compare it; store the result beside it.

    Raises `BackupError` if the drill cannot run: no store, no programs, no scratch database, or a failed server
    (`DrillAborted`). Then nothing is stored, and earlier results remain valid.
    """
    settings = current_settings()
    store = open_backup_store(settings)
    with backup_lock(STORE_LOCK, "Another drill or pruning") as connection:
        origin = read_origin(connection)
        own = None if settings.backups.drill_url else Target.from_connection(connection)
        source = source_id(origin.system_identifier, origin.database)
        inventory = Inventory.load(store)
        backup = inventory.find(name, source=source, until=origin.taken_at + CLOCK_TOLERANCE)
        with drill_server(settings.backups.drill_url, own, settings.server.home) as server:
            leftovers = drop_leftovers(server, source)
            size = SIZE.one(connection, {})
            check_disk_space(server, size.bytes if size else 0)
            report = _Drill(settings, inventory, backup, origin).run(server, source, len(leftovers))
    store_report(store, report.name, "drill", ok=report.ok, at=report.began_at, details=asdict(report))
    return report


@dataclass
class _Drill:
    """A running drill: its steps so far, up to the first that fails, and their problems."""

    settings: Settings
    inventory: Inventory
    backup: Backup
    origin: Origin  # of the live database
    problems: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    skipped: tuple[Skipped, ...] = ()
    files: int = 0
    files_hashed: int = 0
    started: float = field(default_factory=time.monotonic)

    def run(self, server: Target, source: str, leftovers: int) -> DrillReport:
        manifest = self._check_backup()
        if manifest is not None:
            self._restore(manifest, server, source)
            if manifest.files is not None:
                self._step("file contents", self._check_files)
        newest = manifest.contents.newest_message_at if manifest else None
        return DrillReport(
            name=self.backup.name.text,
            store=self.inventory.store.url,
            ok=not self.problems,
            problems=limit_problems(self.problems),
            steps=tuple(self.steps),
            began_at=self.origin.taken_at,
            rto_seconds=round(sum(step.seconds for step in self.steps), 3),
            rpo_seconds=(self.origin.taken_at - newest).total_seconds() if newest else None,
            snapshot_age_seconds=(self.origin.taken_at - self.backup.name.taken_at).total_seconds(),
            tables=len(manifest.contents.tables) if manifest else 0,
            rows=manifest.rows if manifest else 0,
            alembic=manifest.contents.alembic if manifest else (),
            restored_on=f"{server.parameters['host']}:{server.parameters['port']}, PostgreSQL {server.version}",
            leftovers_dropped=leftovers,
            skipped=tuple(map(str, self.skipped)),
            files=self.files,
            files_hashed=self.files_hashed,
        )

    def _check_backup(self) -> Manifest | None:
        """Verify the manifest and the dump. Returns the manifest, or None if one of them is damaged."""
        self._step("checksums", lambda: check_dump(self.inventory, self.backup))
        return None if self.problems else self.inventory.manifest(self.backup)

    def _check_files(self) -> list[str]:
        identities = identities_of(self.inventory, self.backup, self.settings)
        checked = check_files(self.inventory, self.backup, identities=identities)
        self.files, self.files_hashed = checked.contents, checked.hashed
        return list(checked.problems)

    def _restore(self, manifest: Manifest, server: Target, source: str) -> None:
        if server.version < manifest.origin.major:
            raise RestoreFailed(
                f"{self.backup.name} is of PostgreSQL {manifest.origin.major}, but the server for drills is "
                f"{server.version}: set DRILL_DATABASE_URL to a server that is not older"
            )
        try:
            identities = identities_of(self.inventory, self.backup, self.settings)
        except BackupKeyUnusable as error:
            raise DrillAborted(f"The drill of {self.backup.name} was aborted: {error.detail}") from error
        programs = find_programs(server, chosen=self.settings.backups.programs, written_by=manifest.dump.major)
        assert self.backup.dump is not None  # noqa: S101  # check_dump found it
        dump = self.backup.dump.name
        with scratch_database(server, source, manifest.origin.encoding) as scratch:

            def copy(write: Callable[[bytes], Any]) -> None:
                copy_plain(read_dump(self.inventory.store, dump, manifest.dump, title="Restoring"), write, identities)

            def restore() -> list[str]:
                try:
                    self.skipped = restore_dump(programs, scratch.target, copy)
                except RestoreFailed as error:
                    if _SERVER_ERRORS.search(error.detail):
                        raise DrillAborted(
                            f"The drill of {self.backup.name} was aborted; the backup was not checked: {error.detail}"
                        ) from error
                    return [error.detail]
                except BackupDamaged as error:
                    return [error.detail]
                return []

            if self._step("restore", restore):
                self._compare(manifest, scratch.target)
        if scratch.drop_failed:
            self.problems.append(f"The scratch database {scratch.target.database} could not be dropped.")

    def _compare(self, manifest: Manifest, target: Target) -> None:
        def compare() -> list[str]:
            with target.connected(OUTPUT_SETTINGS) as reader:
                return list(find_differences(without_skipped(manifest.contents, self.skipped), read_contents(reader)))

        self._step("comparison with the manifest", compare)
        with target.connected() as connection:
            self._step("foreign keys", lambda: find_orphan_rows(connection))
            self._step("indexes", lambda: find_broken_indexes(connection))

    def _step(self, name: str, check: Callable[[], list[str] | str]) -> bool:
        """Run and record a step. `check` returns problems, or why it could not run. Returns whether it was ok."""
        started = time.monotonic()
        outcome = check()
        result = outcome if isinstance(outcome, str) else "failed" if outcome else "ok"
        self.steps.append(Step(step=name, result=result, seconds=round(time.monotonic() - started, 3)))
        if not isinstance(outcome, str):
            self.problems += outcome
        return result == "ok"
