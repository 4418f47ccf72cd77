"""The manifest: what was in the database when the snapshot was taken, as JSON that carries its own checksum."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

import orjson

from ops.backup.errors import Damaged

SCHEMA = "parley.backup/1"
LIMIT = 16 * 1024 * 1024  # bytes; far beyond what thousands of tables need
_SEAL = "seal"


@dataclass(frozen=True, slots=True)
class Table:
    """`digest` is the same for the same rows in any order, on every version of PostgreSQL: 32 hexadecimal digits."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a database holds: `tables` by qualified name, `objects` counted by kind, `extensions` with versions."""

    tables: Mapping[str, Table]
    objects: Mapping[str, int]
    extensions: Mapping[str, str]
    alembic: tuple[str, ...]
    newest_message_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a backup was taken: the database's clock says when, `system_identifier` names the server for life."""

    database: str
    system_identifier: int
    server_version: str
    encoding: str
    taken_at: datetime

    @property
    def major(self) -> int:
        return int(self.server_version.split(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """The dump's file: its size and checksum, and the version of the pg_dump that wrote it."""

    bytes: int
    sha256: str
    pg_dump: str

    @property
    def major(self) -> int:
        return int(self.pg_dump.split(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    name: str
    origin: Origin
    contents: Contents
    dump: Dump
    schema: str = field(default=SCHEMA)

    @property
    def rows(self) -> int:
        """Of all tables together."""
        return sum(table.rows for table in self.contents.tables.values())


def written(manifest: Manifest) -> bytes:
    """As JSON, readable by people, sealed by a checksum of the rest."""
    document = asdict(manifest)
    return orjson.dumps({**document, _SEAL: _seal(document)}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def read(text: bytes, name: str) -> Manifest:
    """Raises `Damaged` for what is no manifest, was changed since it was written, or is another backup's."""
    try:
        document = orjson.loads(text)
        seal = document.pop(_SEAL)
        schema = document["schema"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(f"The manifest of {name} is no manifest: it was cut off or overwritten.") from None
    if schema != SCHEMA:
        raise Damaged(f"The manifest of {name} is of the kind {schema!r}, which this version of Parley cannot read.")
    if seal != _seal(document):
        raise Damaged(f"The manifest of {name} was changed after it was written: its own checksum does not fit.")
    try:
        manifest = _manifest(document)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(f"The manifest of {name} lacks what a manifest needs.") from None
    if manifest.name != name:
        raise Damaged(f"The manifest of {name} is the one of {manifest.name}: somebody renamed or copied it.")
    return manifest


def _seal(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _manifest(document: dict[str, Any]) -> Manifest:
    origin, contents, dump = (dict(document[part]) for part in ("origin", "contents", "dump"))
    origin["taken_at"] = datetime.fromisoformat(origin["taken_at"])
    contents["tables"] = {name: Table(**table) for name, table in contents["tables"].items()}
    contents["alembic"] = tuple(contents["alembic"])
    newest = contents["newest_message_at"]
    contents["newest_message_at"] = datetime.fromisoformat(newest) if newest else None
    return Manifest(
        name=document["name"],
        origin=Origin(**_known(Origin, origin)),
        contents=Contents(**_known(Contents, contents)),
        dump=Dump(**_known(Dump, dump)),
    )


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that this version knows; a later one may have written more."""
    return {one.name: values[one.name] for one in fields(kind)}
