"""What a store holds, sorted out: backups with their dumps, their manifests and what was found about them since."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ops.backup.errors import Damaged, NoSuchBackup
from ops.backup.manifest import LIMIT, Manifest, read
from ops.backup.names import DUMP, MANIFEST, BackupName, parse_report_name
from ops.backup.reports import Report, read_report
from ops.backup.stores.base import Entry, Store


@dataclass(frozen=True, slots=True)
class Backup:
    """One that has a manifest. `dump` is None where somebody removed it."""

    name: BackupName
    manifest: Entry
    dump: Entry | None
    reports: tuple[Entry, ...] = ()

    @property
    def files(self) -> list[str]:
        """The manifest first: without it there is no backup."""
        return [self.manifest.name, *([self.dump.name] if self.dump else []), *(each.name for each in self.reports)]

    @property
    def size(self) -> int:
        return self.manifest.size + (self.dump.size if self.dump else 0) + sum(each.size for each in self.reports)


@dataclass
class Inventory:
    """`backups` by age, the newest first; `strays` are dumps and reports without a manifest: of runs cut off."""

    store: Store
    backups: tuple[Backup, ...]
    strays: tuple[Entry, ...]
    _manifests: dict[str, Manifest] = field(default_factory=dict)
    _reports: dict[str, Report | None] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store) -> "Inventory":
        """Lists the store; reads no file yet. Raises `StoreFailed`."""
        return cls(store, *_sorted_out(store.entries()))

    def find(self, name: str | None, *, source: str | None = None, until: datetime | None = None) -> Backup:
        """The backup of that name, or the newest (of `source`), if possible of those taken by `until`.

        Raises `NoSuchBackup`.
        """
        if name is not None:
            wanted = name.removesuffix(MANIFEST).removesuffix(DUMP)
            if found := [backup for backup in self.backups if backup.name.text == wanted]:
                return found[0]
            raise NoSuchBackup(f"{self.store.place} holds no backup called {name}; `flask ops backup list` shows all.")
        own = [backup for backup in self.backups if source in (None, backup.name.source)]
        past = [backup for backup in own if until is None or backup.name.taken_at <= until]
        if own:
            return (past or own)[0]
        raise NoSuchBackup(f"{self.store.place} holds no backup of this database; `flask ops backup create` takes one.")

    def manifest(self, backup: Backup) -> Manifest:
        """Raises `Damaged`."""
        name = backup.name.text
        if name not in self._manifests:
            if backup.manifest.size > LIMIT:
                raise Damaged(f"The manifest of {name} is no manifest: it has {backup.manifest.size:,} bytes.")
            self._manifests[name] = read(b"".join(self.store.reading(backup.manifest.name)), name)
        return self._manifests[name]

    def last_report(self, backup: Backup) -> Report | None:
        """What was found last about it; None if nobody looked."""
        return max(self.reports([backup]), key=lambda report: report.stored_at, default=None)

    def reports(self, backups: Iterable[Backup], kind: str | None = None) -> list[Report]:
        """The last report of each kind on each of `backups`; those that cannot be understood are left out."""
        return [
            report
            for backup in backups
            for wanted in ((kind,) if kind else ("drill", "verify"))
            if (report := self._last(backup, wanted)) is not None
        ]

    def trouble(self, backup: Backup) -> str | None:
        """What is known to be wrong with it, without reading the dump; None if nothing is."""
        if backup.dump is None:
            return "its dump is gone"
        try:
            expected = self.manifest(backup).dump.bytes
        except Damaged as error:
            return error.detail
        if backup.dump.size != expected:
            return f"its dump has {backup.dump.size:,} bytes instead of {expected:,}"
        report = self.last_report(backup)
        if report is not None and not report.ok:
            return f"a {report.kind} found: {'; '.join(report.problems) or 'that it is not good'}"
        return None

    def newest_good(self, source: str, *, until: datetime) -> Backup | None:
        """The newest backup with which nothing is known to be wrong, of those taken by then."""
        for backup in self.backups:
            if backup.name.source == source and backup.name.taken_at <= until and self.trouble(backup) is None:
                return backup
        return None

    def _last(self, backup: Backup, kind: str) -> Report | None:
        entries = [each for each in backup.reports if (parse_report_name(each.name) or ("", ""))[1] == kind]
        if not entries:
            return None
        newest = max(entries, key=lambda each: each.stored_at)
        if newest.name not in self._reports:
            self._reports[newest.name] = read_report(self.store, newest, kind)
        return self._reports[newest.name]


def _sorted_out(entries: list[Entry]) -> tuple[tuple[Backup, ...], tuple[Entry, ...]]:
    """Files that are not named like ours are nobody's business here."""
    manifests: dict[str, Entry] = {}
    dumps: dict[str, Entry] = {}
    reports: dict[str, list[Entry]] = {}
    for entry in entries:
        if (found := parse_report_name(entry.name)) is not None:
            reports.setdefault(found[0], []).append(entry)
        elif entry.name.endswith(MANIFEST) and BackupName.parse(stem := entry.name.removesuffix(MANIFEST)):
            manifests[stem] = entry
        elif entry.name.endswith(DUMP) and BackupName.parse(stem := entry.name.removesuffix(DUMP)):
            dumps[stem] = entry
    names = sorted(filter(None, map(BackupName.parse, manifests)), reverse=True)
    backups = tuple(
        Backup(name, manifests[name.text], dumps.get(name.text), tuple(reports.get(name.text, ()))) for name in names
    )
    strays = [entry for stem, entry in dumps.items() if stem not in manifests]
    strays += [entry for stem, left in reports.items() if stem not in manifests for entry in left]
    return backups, tuple(strays)
