"""How backups are called: `parley-<source>-<moment>-<random>`, a name for ever.

`source` stands for one database, so that several may share a store without pruning each other's. The moment is the
database's own, and for people; the random part keeps two of one moment apart when a clock is set back.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

DUMP, MANIFEST, REPORT = ".dump", ".manifest.json", ".json"
_MOMENT = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"parley-([0-9a-f]{8})-([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{8}")
_REPORT = re.compile(rf"({_NAME.pattern})\.(drill|verify)-[0-9]{{8}}T[0-9]{{6}}Z-[0-9a-f]{{8}}\.json")


@dataclass(frozen=True, slots=True, order=True)
class BackupName:
    """A backup's name in its parts; by age when sorted."""

    taken_at: datetime
    text: str
    source: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for what is no backup's name."""
        found = _NAME.fullmatch(text)
        try:
            return cls(_moment(found[2]), text, found[1]) if found else None
        except ValueError:  # digits that are no date
            return None

    def __str__(self) -> str:
        return self.text


def new_name(source: str, taken_at: datetime) -> BackupName:
    """A name that no other backup has."""
    moment = taken_at.astimezone(UTC).replace(microsecond=0)
    return BackupName(moment, f"parley-{source}-{moment:{_MOMENT}}-{secrets.token_hex(4)}", source)


def source_of(system_identifier: int, database: str) -> str:
    """The name of a database among all others: its server's identifier, made at initdb, and its own name."""
    return hashlib.sha256(f"{system_identifier}/{database}".encode()).hexdigest()[:8]


def own_prefix(source: str) -> str:
    """What the names of everything of one database begin with."""
    return f"parley-{source}-"


def new_report_name(backup: str, kind: str, now: datetime) -> str:
    """The name of a report on `backup`; `kind` is `drill` or `verify`."""
    return f"{backup}.{kind}-{now.astimezone(UTC):{_MOMENT}}-{secrets.token_hex(4)}{REPORT}"


def parse_report_name(name: str) -> tuple[str, str] | None:
    """(backup, kind) of a report's name."""
    found = _REPORT.fullmatch(name)
    return (found[1], found[4]) if found else None


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)
