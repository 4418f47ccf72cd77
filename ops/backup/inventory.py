"""The backups in a store: each with its dump, its manifest and its reports."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from app.storage.base import Store, StoredFile
from app.storage.errors import FileNotFoundInStorage, StoredFileChanged
from ops.backup.errors import BackupDamaged, NoSuchBackup
from ops.backup.manifest import MAX_BYTES, Manifest, parse
from ops.backup.names import DUMP, ENCRYPTED_DUMP, FILES, MANIFEST, BackupName, parse_dump_name, parse_report_name
from ops.backup.stored_reports import Report, load_report


@dataclass(frozen=True, slots=True)
class Backup:
    """A manifest and its files. `dump` is None if the dump is missing, `files_list` without a list of users' files."""

    name: BackupName
    manifest: StoredFile
    dump: StoredFile | None
    files_list: StoredFile | None = None
    reports: tuple[StoredFile, ...] = ()

    @property
    def files(self) -> list[str]:
        """Names of all files. The manifest is first, so that an interrupted deletion leaves no damaged backup."""
        return [
            self.manifest.name,
            *([self.dump.name] if self.dump else []),
            *([self.files_list.name] if self.files_list else []),
            *(report.name for report in self.reports),
        ]

    @property
    def size(self) -> int:
        parts = (self.manifest, self.dump, self.files_list, *self.reports)
        return sum(part.size for part in parts if part is not None)


@dataclass
class Inventory:
    """The contents of a store. `backups` are sorted newest first.

    `orphans` are dumps, lists of files and reports without a manifest, left by aborted runs.
    """

    store: Store
    backups: tuple[Backup, ...]
    orphans: tuple[StoredFile, ...]
    _manifests: dict[str, Manifest] = field(default_factory=dict)
    _reports: dict[str, Report | None] = field(default_factory=dict)

    @classmethod
    def load(cls, store: Store) -> "Inventory":
        """List the store without reading any file. Raises `StorageUnavailable`."""
        return cls(store, *_group_files(store.list_files()))

    @property
    def orphan_dumps(self) -> list[tuple[BackupName, StoredFile]]:
        """The dumps without a manifest, with their names."""
        named = [(parse_dump_name(file.name), file) for file in self.orphans]
        return [(name, file) for name, file in named if name is not None]

    def changed_since_proof(self, backup: Backup) -> bool:
        """Return whether the dump was written after its manifest and after the last report that found it good."""
        proofs = [report.stored_at for report in self.reports([backup]) if report.ok]
        return backup.dump is not None and backup.dump.stored_at > max([backup.manifest.stored_at, *proofs])

    def find(self, name: str | None, *, source: str | None = None, until: datetime | None = None) -> Backup:
        """Return the backup with this name, or the newest one of `source`, if possible one taken by `until`.

        Raises `NoSuchBackup`.
        """
        if name is not None:
            stem = name.removesuffix(MANIFEST).removesuffix(ENCRYPTED_DUMP).removesuffix(DUMP)
            for backup in self.backups:
                if backup.name.text == stem:
                    return backup
            raise NoSuchBackup(f"{self.store.url} holds no backup called {name}; `flask ops backup list` shows all.")
        candidates = [backup for backup in self.backups if source in (None, backup.name.source)]
        past = [backup for backup in candidates if until is None or backup.name.taken_at <= until]
        if candidates:
            return (past or candidates)[0]
        raise NoSuchBackup(f"{self.store.url} holds no backup of this database; `flask ops backup create` takes one.")

    def manifest(self, backup: Backup) -> Manifest:
        """Return the manifest, cached. Raises `BackupDamaged` if it is missing or damaged."""
        name = backup.name.text
        if name not in self._manifests:
            if backup.manifest.size > MAX_BYTES:
                raise BackupDamaged(f"The manifest of {name} is not valid: it has {backup.manifest.size:,} bytes.")
            try:
                text = b"".join(self.store.read(backup.manifest.name))
            except (FileNotFoundInStorage, StoredFileChanged) as error:
                raise BackupDamaged(error.detail) from None
            self._manifests[name] = parse(text, name)
        return self._manifests[name]

    def last_report(self, backup: Backup) -> Report | None:
        """Return the latest report on the backup, or None."""
        return max(self.reports([backup]), key=lambda report: report.stored_at, default=None)

    def reports(self, backups: Iterable[Backup], kind: str | None = None) -> list[Report]:
        """Return the latest report of each kind, `drill` and `verify`, on each backup. Invalid reports are left out."""
        return [
            report
            for backup in backups
            for report_kind in ((kind,) if kind else ("drill", "verify"))
            if (report := self._latest_report(backup, report_kind)) is not None
        ]

    def problem(self, backup: Backup) -> str | None:
        """Return the known problem of the backup, without reading its dump, or None."""
        if backup.dump is None:
            return "its dump is missing"
        try:
            manifest = self.manifest(backup)
        except BackupDamaged as error:
            return error.detail
        if backup.dump.size != manifest.dump.bytes:
            return f"its dump has {backup.dump.size:,} bytes instead of {manifest.dump.bytes:,}"
        if manifest.files is not None and (backup.files_list is None or backup.files_list.size != manifest.files.bytes):
            return "its list of files is missing or has another size"
        report = self.last_report(backup)
        if report is not None and not report.ok:
            return f"a {report.kind} found: {'; '.join(report.problems) or 'an unknown problem'}"
        return None

    def newest_good(self, source: str, *, until: datetime) -> Backup | None:
        """Return the newest backup of `source` without a known problem that was taken by `until`, or None."""
        for backup in self.backups:
            if backup.name.source == source and backup.name.taken_at <= until and self.problem(backup) is None:
                return backup
        return None

    def _latest_report(self, backup: Backup, kind: str) -> Report | None:
        files = [file for file in backup.reports if (parse_report_name(file.name) or ("", ""))[1] == kind]
        if not files:
            return None
        newest = max(files, key=lambda file: file.stored_at)
        if newest.name not in self._reports:
            self._reports[newest.name] = load_report(self.store, newest, kind)
        return self._reports[newest.name]


def _group_files(files: list[StoredFile]) -> tuple[tuple[Backup, ...], tuple[StoredFile, ...]]:
    """Return the backups and the orphans among `files`. Files with other names are ignored."""
    manifests: dict[str, StoredFile] = {}
    dumps: dict[str, StoredFile] = {}
    lists: dict[str, StoredFile] = {}
    reports: dict[str, list[StoredFile]] = {}
    for file in files:
        if (report_name := parse_report_name(file.name)) is not None:
            reports.setdefault(report_name[0], []).append(file)
        elif file.name.endswith(MANIFEST) and BackupName.parse(stem := file.name.removesuffix(MANIFEST)):
            manifests[stem] = file
        elif file.name.endswith(FILES) and BackupName.parse(stem := file.name.removesuffix(FILES)):
            lists[stem] = file
        elif (dump_name := parse_dump_name(file.name)) is not None:
            dumps[dump_name.text] = file
    names = sorted(filter(None, map(BackupName.parse, manifests)), reverse=True)
    backups = tuple(
        Backup(
            name,
            manifests[name.text],
            dumps.get(name.text),
            lists.get(name.text),
            tuple(reports.get(name.text, ())),
        )
        for name in names
    )
    orphans = [file for stem, file in (*dumps.items(), *lists.items()) if stem not in manifests]
    orphans += [file for stem, group in reports.items() if stem not in manifests for file in group]
    return backups, tuple(orphans)
