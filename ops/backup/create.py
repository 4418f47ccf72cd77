"""Creation of a backup: dump and contents from one snapshot, stored, read back, and completed by the manifest."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from tempfile import TemporaryFile
from typing import IO

from sqlalchemy.exc import DBAPIError

from app.container import current_settings
from app.database import driver_message
from app.services.file_store import open_file_store
from app.storage.base import Store
from app.storage.errors import FileNotFoundInStorage, StoredFileChanged
from ops.backup import manifest as manifests
from ops.backup.contents import read_origin
from ops.backup.errors import BackupDamaged, DumpFailed
from ops.backup.file_copies import FileCopier
from ops.backup.file_lists import KnownCopies, ListWriter, copies_of
from ops.backup.inventory import Inventory
from ops.backup.locks import CREATE_LOCK, backup_lock
from ops.backup.manifest import Contents, Dump, Encryption, FileList, Manifest
from ops.backup.names import DUMP, ENCRYPTED_DUMP, FILES, MANIFEST, new_name, source_id, source_prefix
from ops.backup.processes import run_pg_dump
from ops.backup.programs import Programs, find_programs
from ops.backup.snapshot import Snapshot, export_snapshot
from ops.backup.store import open_backup_store
from ops.backup.target import Target
from ops.runs.batches import TimeBudget
from ops.runs.progress import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """A new backup, after it was read back and its manifest was stored. `store` is the store's URL.

    `seconds` is the total duration. `unfinished_deleted` counts the unfinished files of aborted runs that were deleted
    before. `encrypted_for` has the public keys for which the dump is encrypted. `files` counts the contents of users'
    files, and `files_copied` those that no earlier backup had copied.
    """

    name: str
    store: str
    taken_at: datetime
    bytes: int
    sha256: str
    tables: int
    rows: int
    newest_message_at: datetime | None
    pg_dump: str
    encrypted_for: tuple[str, ...] = ()
    seconds: float
    unfinished_deleted: int
    files: int = 0
    files_copied: int = 0
    file_bytes_copied: int = 0
    files_missing: int = 0
    files_problem: str | None = None


def create(*, file_seconds: float | None = None) -> BackupReport:
    """Back up the database and the contents of users' files, which are copied for at most `file_seconds`.

    Contents that could not be copied are missing in the backup: `files_missing`, and why in `files_problem`.
    Raises `BackupError`, `StorageError`, `AlreadyRunning` or `DBAPIError`; then no backup was created.
    """
    settings, started = current_settings(), time.monotonic()
    store = open_backup_store(settings)
    with backup_lock(CREATE_LOCK, "Another backup") as connection:
        origin = read_origin(connection)
        target = Target.from_connection(connection)
        programs = find_programs(target, chosen=settings.backups.programs)
        source = source_id(origin.system_identifier, origin.database)
        unfinished_deleted = store.delete_unfinished(source_prefix(source), (DUMP, ENCRYPTED_DUMP, FILES, MANIFEST))
        copier = FileCopier(
            cache(partial(open_file_store, settings)),
            copies_of(store),
            source,
            settings.backups.age_recipients,
            KnownCopies.of(Inventory.load(store), source),
            TimeBudget(file_seconds),
        )
        manifest = _store_backup(store, target, programs, copier)
    return BackupReport(
        name=manifest.name,
        store=store.url,
        taken_at=manifest.origin.taken_at,
        bytes=manifest.dump.bytes,
        sha256=manifest.dump.sha256,
        tables=len(manifest.contents.tables),
        rows=manifest.rows,
        newest_message_at=manifest.contents.newest_message_at,
        pg_dump=programs.version,
        encrypted_for=manifest.dump.encryption.recipients if manifest.dump.encryption else (),
        seconds=round(time.monotonic() - started, 3),
        unfinished_deleted=unfinished_deleted,
        files=manifest.files.contents if manifest.files else 0,
        files_copied=copier.counts.copied,
        file_bytes_copied=copier.counts.bytes,
        files_missing=manifest.files.missing if manifest.files else 0,
        files_problem=copier.counts.problem,
    )


def read_dump(store: Store, name: str, dump: Dump, *, title: str = "Reading back") -> Iterator[bytes]:
    """Yield the dump in chunks and verify its size and checksum.

    Raises `BackupDamaged` at the end if they differ from the manifest, or if the file is missing or changes.
    """
    digest, size = hashlib.sha256(), 0
    with progress(title, total=dump.bytes, unit="bytes") as bar:
        try:
            for chunk in store.read(name):
                digest.update(chunk)
                size += len(chunk)
                bar.advance(len(chunk))
                yield chunk
        except (FileNotFoundInStorage, StoredFileChanged) as error:
            raise BackupDamaged(error.detail) from None
    if size != dump.bytes:
        raise BackupDamaged(f"{name} in {store.url} has {size:,} bytes; its manifest says {dump.bytes:,}.")
    if digest.hexdigest() != dump.sha256:
        raise BackupDamaged(f"{name} in {store.url} is damaged: its SHA-256 is not the one in its manifest.")


def _store_backup(store: Store, target: Target, programs: Programs, copier: FileCopier) -> Manifest:
    with TemporaryFile() as rows:
        with export_snapshot(target, rows) as snapshot:
            name = new_name(copier.source, snapshot.origin.taken_at).text
            file_name = f"{name}{ENCRYPTED_DUMP if copier.recipients else DUMP}"
            stored_dump = _store_dump(store, file_name, target, programs, snapshot, copier.recipients)
            contents, origin = snapshot.contents.result(), snapshot.origin
        try:
            for _ in read_dump(store, file_name, stored_dump):
                pass
            files = _store_files(store, f"{name}{FILES}", rows, copier)
            manifest = Manifest(name=name, origin=origin, contents=contents, dump=stored_dump, files=files)
            with store.create(f"{name}{MANIFEST}") as file:
                file.write(manifests.serialize(manifest))
        except BaseException:
            store.delete(file_name)
            store.delete(f"{name}{FILES}")
            raise
    return manifest


def _store_files(store: Store, name: str, rows: IO[bytes], copier: FileCopier) -> FileList | None:
    """Copy the contents in `rows`, the lines of `copy_file_contents`, and store their list, if there are any."""
    rows.seek(0)
    total = sum(1 for _ in rows)
    if not total:
        return None
    rows.seek(0)
    parsed = ((line[0], int(line[1]), line[2]) for line in (row.decode().split() for row in rows))
    with store.create(name) as file:
        writer = ListWriter(file)
        for entry in copier.run(parsed, total):
            writer.add(entry)
        return writer.finish()


def _store_dump(
    store: Store, name: str, target: Target, programs: Programs, snapshot: Snapshot, recipients: Sequence[str]
) -> Dump:
    digest, size = hashlib.sha256(), 0
    with store.create(name) as file, progress("Dumping", unit="bytes") as bar:

        def write(chunk: bytes) -> None:
            nonlocal size
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
            bar.advance(len(chunk))

        try:
            with closing(run_pg_dump(programs, target, snapshot=snapshot.id)) as chunks:
                if recipients:
                    _encrypt(_checked(chunks, snapshot), write, recipients)
                else:
                    for chunk in _checked(chunks, snapshot):
                        write(chunk)
        except DumpFailed:
            _check_contents(snapshot.contents)  # its transaction exports the snapshot: if it failed, that is the cause
            raise
        bar.advance(0, note="comparing counts and hashes")
        _check_contents(snapshot.contents, wait=True)
    encryption = Encryption("age", tuple(recipients)) if recipients else None
    return Dump(bytes=size, sha256=digest.hexdigest(), pg_dump=programs.version, encryption=encryption)


def _encrypt(chunks: Iterator[bytes], write: Callable[[bytes], None], recipients: Sequence[str]) -> None:
    from ops.backup.encryption import encrypt  # only where dumps are encrypted

    encrypt(chunks, write, recipients)


def _checked(chunks: Iterator[bytes], snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the chunks with data, as long as the thread that reads the contents has not failed."""
    for chunk in chunks:
        _check_contents(snapshot.contents)
        if chunk:
            snapshot.imported.set()
            yield chunk


def _check_contents(contents: "Future[Contents]", *, wait: bool = False) -> None:
    """Raise `DumpFailed` if the thread that reads the contents for the manifest has failed."""
    if not wait and not contents.done():
        return
    try:
        contents.result()
    except DBAPIError as error:
        raise DumpFailed(f"The tables could not be read for the manifest: {driver_message(error)}") from error
