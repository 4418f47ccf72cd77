"""Names of backups: `parley-<source>-<time>-<suffix>`.

`source` identifies one database, so that several can share a store without pruning each other's backups. `time` is the
database's time in UTC. The suffix has 8 hexadecimal digits: 3 of the millisecond, so that names sort by age within a
second too, and 5 random ones, which separate two backups of the same millisecond after a clock was set back.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

ENCRYPTED_SUFFIX = ".age"
DUMP, ENCRYPTED_DUMP, MANIFEST, REPORT = ".dump", f".dump{ENCRYPTED_SUFFIX}", ".manifest.json", ".json"
FILES = ".files.jsonl"  # the list of the contents of users' files
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"parley-([0-9a-f]{8})-([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{8}")
_REPORT = re.compile(rf"({_NAME.pattern})\.(drill|verify)-[0-9]{{8}}T[0-9]{{6}}Z-[0-9a-f]{{8}}\.json")


@dataclass(frozen=True, slots=True, order=True)
class BackupName:
    """The parsed name of a backup. Names sort by age."""

    taken_at: datetime
    text: str
    source: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a backup's name. Returns None for other text."""
        match = _NAME.fullmatch(text)
        try:
            return cls(_parse_time(match[2]), text, match[1]) if match else None
        except ValueError:  # the digits are not a date
            return None

    def __str__(self) -> str:
        return self.text


def new_name(source: str, taken_at: datetime) -> BackupName:
    """Return a new, unique name."""
    second = taken_at.astimezone(UTC).replace(microsecond=0)
    suffix = f"{taken_at.microsecond // 1000:03x}{secrets.randbits(20):05x}"
    return BackupName(second, f"parley-{source}-{second:{_TIME_FORMAT}}-{suffix}", source)


def source_id(system_identifier: int, database: str) -> str:
    """Return the id of a database, 8 hexadecimal digits: a hash of the server's identifier and the database's name."""
    return hashlib.sha256(f"{system_identifier}/{database}".encode()).hexdigest()[:8]


def source_prefix(source: str) -> str:
    """Return the prefix of the names of all files of one database."""
    return f"parley-{source}-"


def parse_dump_name(name: str) -> BackupName | None:
    """Return the backup's name from the name of a plain or encrypted dump, or None for another name."""
    for suffix in (DUMP, ENCRYPTED_DUMP):
        if name.endswith(suffix):
            return BackupName.parse(name.removesuffix(suffix))
    return None


def new_report_name(backup: str, kind: str, now: datetime) -> str:
    """Return a new name for a report on `backup`; `kind` is `drill` or `verify`."""
    return f"{backup}.{kind}-{now.astimezone(UTC):{_TIME_FORMAT}}-{secrets.token_hex(4)}{REPORT}"


def parse_report_name(name: str) -> tuple[str, str] | None:
    """Return the backup's name and the kind from a report's name, or None for another name."""
    match = _REPORT.fullmatch(name)
    return (match[1], match[4]) if match else None


def _parse_time(text: str) -> datetime:
    return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
