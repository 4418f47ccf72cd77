"""The manifest of a backup: the contents of the database at the snapshot, as JSON with its own checksum."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

import orjson

from ops.backup.errors import BackupDamaged

SCHEMA = "parley.backup/1"
# Earlier versions of Parley cannot read an encrypted dump, so they must not read its manifest.
ENCRYPTED_SCHEMA = "parley.backup/2"
MAX_BYTES = 16 * 1024 * 1024  # thousands of tables need far less
_SEAL = "seal"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table. `digest` (32 hexadecimal digits) depends neither on their order nor on the version."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class AuditSeal:
    """The newest seal of the audit: its number, and its hash as hexadecimal digits."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of a database: tables by qualified name, object counts by kind, extension versions by name.

    `audit_seal` is None if the audit has no seal, or in a manifest of an older version.
    """

    tables: Mapping[str, Table]
    objects: Mapping[str, int]
    extensions: Mapping[str, str]
    alembic: tuple[str, ...]
    newest_message_at: datetime | None
    audit_seal: AuditSeal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The source of a backup. `taken_at` is the server's time; `system_identifier` is PostgreSQL's id from initdb."""

    database: str
    system_identifier: int
    server_version: str
    encoding: str
    taken_at: datetime

    @property
    def major(self) -> int:
        return int(self.server_version.split(".")[0])


@dataclass(frozen=True, slots=True)
class Encryption:
    """The encryption of a dump: its format, and the public keys for which it is encrypted."""

    format: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """The dump file as it is stored: size, checksum, encryption, and the version of pg_dump that wrote it."""

    bytes: int
    sha256: str
    pg_dump: str
    encryption: Encryption | None = None

    @property
    def major(self) -> int:
        return int(self.pg_dump.split(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class FileList:
    """The stored list of the contents of users' files: its size and checksum.

    It lists `contents`, which have `content_bytes`; `missing` of them could not be copied.
    """

    bytes: int
    sha256: str
    contents: int
    content_bytes: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The manifest of the backup `name`. `files` is None if the database has no files."""

    name: str
    origin: Origin
    contents: Contents
    dump: Dump
    files: FileList | None = None

    @property
    def schema(self) -> str:
        return SCHEMA if self.dump.encryption is None else ENCRYPTED_SCHEMA

    @property
    def rows(self) -> int:
        """Number of rows of all tables."""
        return sum(table.rows for table in self.contents.tables.values())


def serialize(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON with a checksum of itself."""
    document = {**asdict(manifest), "schema": manifest.schema}
    return orjson.dumps({**document, _SEAL: _seal(document)}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def parse(text: bytes, name: str) -> Manifest:
    """Parse the manifest of the backup `name`.

    Raises `BackupDamaged` if the text is invalid, was modified, or belongs to another backup.
    """
    try:
        document = orjson.loads(text)
        seal = document.pop(_SEAL)
        schema = document["schema"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupDamaged(f"The manifest of {name} is not valid: it was truncated or overwritten.") from None
    if schema not in (SCHEMA, ENCRYPTED_SCHEMA):
        raise BackupDamaged(
            f"The manifest of {name} has the schema {schema!r}, which this version of Parley cannot read."
        )
    if seal != _seal(document):
        raise BackupDamaged(f"The manifest of {name} was changed after it was written: its checksum does not match.")
    try:
        manifest = _from_document(document)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupDamaged(f"The manifest of {name} is not valid: it lacks required fields.") from None
    if manifest.name != name:
        raise BackupDamaged(f"The manifest of {name} belongs to {manifest.name}: the file was renamed or copied.")
    return manifest


def _seal(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _from_document(document: dict[str, Any]) -> Manifest:
    origin, contents, dump = (dict(document[part]) for part in ("origin", "contents", "dump"))
    origin["taken_at"] = datetime.fromisoformat(origin["taken_at"])
    contents["tables"] = {name: Table(**table) for name, table in contents["tables"].items()}
    contents["alembic"] = tuple(contents["alembic"])
    newest = contents["newest_message_at"]
    contents["newest_message_at"] = datetime.fromisoformat(newest) if newest else None
    seal = contents.get("audit_seal")
    contents["audit_seal"] = AuditSeal(**_known_fields(AuditSeal, seal)) if seal else None
    encryption = dump.get("encryption")
    dump["encryption"] = Encryption(encryption["format"], tuple(encryption["recipients"])) if encryption else None
    files = document.get("files")
    return Manifest(
        name=document["name"],
        origin=Origin(**_known_fields(Origin, origin)),
        contents=Contents(**_known_fields(Contents, contents)),
        dump=Dump(**_known_fields(Dump, dump)),
        files=FileList(**_known_fields(FileList, files)) if files else None,
    )


def _known_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the fields of `kind`. A later version may have written more fields, an earlier one fewer."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}
