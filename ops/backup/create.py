"""Taking a backup: a dump and a manifest of one snapshot, stored whole, read back, and only then called a backup."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import DBAPIError

from app.database import said
from app.services.container import services
from ops.backup import manifest as manifests
from ops.backup.contents import read_origin
from ops.backup.errors import Damaged, DumpFailed
from ops.backup.locks import WRITING, alone
from ops.backup.manifest import Contents, Dump, Manifest
from ops.backup.names import DUMP, MANIFEST, new_name, own_prefix, source_of
from ops.backup.programs import Programs, find_programs
from ops.backup.running import dump
from ops.backup.snapshot import Snapshot, exported
from ops.backup.stores.base import Store
from ops.backup.stores.opening import open_store
from ops.backup.target import Target
from ops.progress import progress

READ_BACK = "Reading it back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A backup that is in the store, was read back, and has its manifest. `seconds` is what that took in all.

    `tidied`: unfinished files of runs that had been cut off were removed before.
    """

    name: str
    place: str
    taken_at: datetime
    bytes: int
    sha256: str
    tables: int
    rows: int
    newest_message_at: datetime | None
    pg_dump: str
    seconds: float
    tidied: int


def create() -> Created:
    """Back the database up. Raises `BackupError`, `AnotherRunIsUnderWay` or `DBAPIError`; then there is no backup."""
    settings, started = services().settings, time.monotonic()
    store = open_store(settings)
    with alone(WRITING, "Another backup") as connection:
        origin = read_origin(connection)
        target = Target.of(connection)
        programs = find_programs(target, chosen=settings.backups.programs)
        source = source_of(origin.system_identifier, origin.database)
        tidied = store.tidy(own_prefix(source), (DUMP, MANIFEST))
        manifest = _take(store, target, programs, source)
    return Created(
        name=manifest.name,
        place=store.place,
        taken_at=manifest.origin.taken_at,
        bytes=manifest.dump.bytes,
        sha256=manifest.dump.sha256,
        tables=len(manifest.contents.tables),
        rows=manifest.rows,
        newest_message_at=manifest.contents.newest_message_at,
        pg_dump=programs.version,
        seconds=round(time.monotonic() - started, 3),
        tidied=tidied,
    )


def checked(store: Store, name: str, dump: Dump, *, title: str = READ_BACK) -> Iterator[bytes]:
    """The dump piece by piece; at its end, raises `Damaged` if it was not what its manifest says."""
    digest, size = hashlib.sha256(), 0
    with progress(title, total=dump.bytes, unit="bytes") as bar:
        for piece in store.reading(name):
            digest.update(piece)
            size += len(piece)
            bar.advance(len(piece))
            yield piece
    if size != dump.bytes:
        raise Damaged(f"{name} in {store.place} has {size:,} bytes; its manifest says {dump.bytes:,}.")
    if digest.hexdigest() != dump.sha256:
        raise Damaged(f"{name} in {store.place} is damaged: its SHA-256 is not the one in its manifest.")


def _take(store: Store, target: Target, programs: Programs, source: str) -> Manifest:
    with exported(target) as snapshot:
        name = new_name(source, snapshot.origin.taken_at).text
        written = _store_dump(store, f"{name}{DUMP}", target, programs, snapshot)
        contents, origin = snapshot.contents.result(), snapshot.origin
    manifest = Manifest(name=name, origin=origin, contents=contents, dump=written)
    try:
        for _ in checked(store, f"{name}{DUMP}", written):
            pass
        with store.writing(f"{name}{MANIFEST}") as file:
            file.write(manifests.written(manifest))
    except BaseException:
        store.remove(f"{name}{DUMP}")
        raise
    return manifest


def _store_dump(store: Store, name: str, target: Target, programs: Programs, snapshot: Snapshot) -> Dump:
    digest, size = hashlib.sha256(), 0
    with store.writing(name) as file, progress("Dumping", unit="bytes") as bar:
        try:
            with closing(dump(programs, target, snapshot=snapshot.id)) as pieces:
                for piece in pieces:
                    _complain(snapshot.contents)
                    if not piece:
                        continue
                    snapshot.taken.set()
                    digest.update(piece)
                    file.write(piece)
                    size += len(piece)
                    bar.advance(len(piece))
        except DumpFailed:
            _complain(snapshot.contents)  # with whose transaction the snapshot ended: then that is the cause
            raise
        bar.advance(0, note="comparing counts and hashes")
        _complain(snapshot.contents, wait=True)
    return Dump(bytes=size, sha256=digest.hexdigest(), pg_dump=programs.version)


def _complain(contents: "Future[Contents]", *, wait: bool = False) -> None:
    """Raise `DumpFailed` if the reading of the contents has failed; what it reads is needed for the manifest."""
    if not wait and not contents.done():
        return
    try:
        contents.result()
    except DBAPIError as error:
        raise DumpFailed(f"The tables could not be read for the manifest: {said(error)}") from error
