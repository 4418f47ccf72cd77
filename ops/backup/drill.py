"""The restore drill: the only proof. A backup is restored into a scratch database and compared with its manifest."""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TypeVar

from app.config import Settings
from app.services.container import services
from ops.backup.comparing import differences
from ops.backup.contents import read_contents, read_origin
from ops.backup.create import checked
from ops.backup.errors import Damaged, DrillBrokenOff, RestoreFailed
from ops.backup.inventory import Backup, Inventory
from ops.backup.locks import KEEPING, alone
from ops.backup.manifest import Manifest, Origin
from ops.backup.names import source_of
from ops.backup.programs import find_programs
from ops.backup.reports import keep_report, told
from ops.backup.retention import AHEAD
from ops.backup.running import restore
from ops.backup.scratch import SIZE, drop_leftovers, refuse_crowded, scratch_database, server_for_drills
from ops.backup.soundness import broken_indexes, orphans
from ops.backup.stores.opening import open_store
from ops.backup.target import Target
from ops.backup.verify import look_into

Result = TypeVar("Result")

# What pg_restore says where the server is at fault and no backup: it went away, stopped the session, or has no room.
_SERVERS = re.compile(
    r"closed the connection|terminating connection|connection to (?:the )?server|database system is|could not (?:send|"
    r"receive) data|No space left|could not extend file|canceling statement|ended by the signal"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One part of a drill; `result` is `ok`, `failed`, or why it could not be judged."""

    step: str
    result: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What came of a drill; `ok` if there are no `problems`.

    `rto_seconds` is what it took until the data were back and compared. `rpo_seconds` is the age of the newest message
    that was restored, None if there is none; `snapshot_age_seconds` is how much is lost at most.
    """

    name: str
    place: str
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


def drill(*, name: str | None = None) -> Drilled:
    """Restore the newest backup of this database, or the one of that `name`, and compare it. The result is kept.

    Raises `BackupError` where nothing can be said of the backup: no store, no programs, no scratch database, or the
    server went away (`DrillBrokenOff`); then nothing is kept, and what was known of it still holds.
    """
    settings = services().settings
    store = open_store(settings)
    with alone(KEEPING, "Another drill or pruning") as connection:
        here, own = read_origin(connection), Target.of(connection)
        source = source_of(here.system_identifier, here.database)
        inventory = Inventory.of(store)
        backup = inventory.find(name, source=source, until=here.taken_at + AHEAD)
        with server_for_drills(settings.backups.drill_url, own, settings.server.home) as server:
            leftovers = drop_leftovers(server, source)
            size = SIZE.one(connection, {})
            refuse_crowded(server, size.bytes if size else 0)
            found = _Drill(settings, inventory, backup, here).on(server, source, len(leftovers))
    keep_report(store, found.name, "drill", ok=found.ok, at=found.began_at, details=asdict(found))
    return found


@dataclass
class _Drill:
    """One drill under way: the steps until one fails, and what they found."""

    settings: Settings
    inventory: Inventory
    backup: Backup
    here: Origin
    problems: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def on(self, server: Target, source: str, leftovers: int) -> Drilled:
        manifest = self._whole()
        if manifest is not None:
            self._restore(manifest, server, source)
        newest = manifest.contents.newest_message_at if manifest else None
        return Drilled(
            name=self.backup.name.text,
            place=self.inventory.store.place,
            ok=not self.problems,
            problems=told(self.problems),
            steps=tuple(self.steps),
            began_at=self.here.taken_at,
            rto_seconds=round(sum(step.seconds for step in self.steps), 3),
            rpo_seconds=(self.here.taken_at - newest).total_seconds() if newest else None,
            snapshot_age_seconds=(self.here.taken_at - self.backup.name.taken_at).total_seconds(),
            tables=len(manifest.contents.tables) if manifest else 0,
            rows=manifest.rows if manifest else 0,
            alembic=manifest.contents.alembic if manifest else (),
            restored_on=f"{server.parameters['host']}:{server.parameters['port']}, PostgreSQL {server.version}",
            leftovers_dropped=leftovers,
        )

    def _whole(self) -> Manifest | None:
        """The manifest, if it and the dump are what they were."""
        self._step("checksums", lambda: look_into(self.inventory, self.backup))
        return None if self.problems else self.inventory.manifest(self.backup)

    def _restore(self, manifest: Manifest, server: Target, source: str) -> None:
        if server.version < manifest.origin.major:
            raise RestoreFailed(
                f"{self.backup.name} is of PostgreSQL {manifest.origin.major}, and the server for drills is "
                f"{server.version}: set DRILL_DATABASE_URL to one that is not older"
            )
        programs = find_programs(server, chosen=self.settings.backups.programs, written_by=manifest.dump.major)
        assert self.backup.dump is not None  # noqa: S101  # its checksum fits
        dump = self.backup.dump.name
        with scratch_database(server, source, manifest.origin.encoding) as scratch:

            def restored() -> list[str]:
                try:
                    restore(
                        programs, scratch.target, checked(self.inventory.store, dump, manifest.dump, title="Restoring")
                    )
                except RestoreFailed as error:
                    if _SERVERS.search(error.detail):
                        raise DrillBrokenOff(
                            f"The drill of {self.backup.name} was broken off, and says nothing of it: {error.detail}"
                        ) from error
                    return [error.detail]
                except Damaged as error:
                    return [error.detail]
                return []

            if self._step("restore", restored):
                self._compare(manifest, scratch.target)
        if scratch.left:
            self.problems.append(f"The scratch database {scratch.target.database} could not be dropped.")

    def _compare(self, manifest: Manifest, target: Target) -> None:
        def compared() -> list[str]:
            with target.connected() as reader:  # of its own: it has its output settings changed
                return list(differences(manifest.contents, read_contents(reader)))

        self._step("comparison with the manifest", compared)
        with target.connected() as connection:
            self._step("foreign keys", lambda: orphans(connection))
            self._step("indexes", lambda: broken_indexes(connection))

    def _step(self, name: str, look: Callable[[], list[str] | str]) -> bool:
        """Whether `look` found nothing wrong. It gives a list of problems, or a word on why it could not judge."""
        started = time.monotonic()
        found = look()
        result = found if isinstance(found, str) else "failed" if found else "ok"
        self.steps.append(Step(step=name, result=result, seconds=round(time.monotonic() - started, 3)))
        if not isinstance(found, str):
            self.problems += found
        return result == "ok"
