"""Restore of a dump by any role: what the role cannot create is skipped, and named."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.database import driver_message
from app.repositories.statement import Statement
from ops.backup.processes import Copy, list_entries, run_pg_restore
from ops.backup.programs import Programs
from ops.backup.target import Target

# "3401; 3079 16385 EXTENSION - pg_stat_statements": id, catalogue, oid, kind, schema, name, owner.
_ENTRY = re.compile(r"\d+; \d+ \d+ (EXTENSION|EVENT TRIGGER) - (\S+)")

QUOTE = Statement("restore.quote", "SELECT pg_catalog.quote_ident(%(name)s) AS name")
IS_SUPERUSER = Statement(
    "restore.is_superuser", "SELECT rolsuper AS yes FROM pg_catalog.pg_roles WHERE rolname = current_user"
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object of a dump that the role of the target cannot create: its kind, such as `extension`, and the reason."""

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"the {self.kind} {self.name}: {self.reason}"


def restore_dump(programs: Programs, target: Target, copy: Copy) -> tuple[Skipped, ...]:
    """Restore the dump that `copy` writes into the empty database `target`, and return what was skipped.

    Extensions and event triggers are skipped if the role of `target` cannot create them there: a dump of a superuser
    has them. If something else depends on them, the restore fails. Raises `RestoreFailed`.
    """
    entries = list_entries(programs, copy)
    skipped = tuple(_find_skipped(target, entries))
    if not skipped:
        run_pg_restore(programs, target, copy)
        return ()
    left_out = {(each.kind.upper(), each.name) for each in skipped}
    kept = [line for line in entries.splitlines(keepends=True) if _object_of(line) not in left_out]
    run_pg_restore(programs, target, copy, entries="".join(kept))
    return skipped


def _find_skipped(target: Target, entries: str) -> Iterator[Skipped]:
    objects = [found for line in entries.splitlines() if (found := _object_of(line)) is not None]
    if not objects:
        return
    with target.connected() as connection:
        yield from _uncreatable_extensions(connection, (name for kind, name in objects if kind == "EXTENSION"))
        row = IS_SUPERUSER.one(connection, {})
        if row is None or not row.yes:
            for kind, name in objects:
                if kind == "EVENT TRIGGER":
                    yield Skipped("event trigger", name, "only a superuser can create it")


def _uncreatable_extensions(connection: Connection, names: Iterable[str]) -> Iterator[Skipped]:
    """Try to create each extension in a transaction that is rolled back: nothing else takes every rule into account."""
    for name in names:
        row = QUOTE.one(connection, {"name": name})
        assert row is not None  # noqa: S101  # it selects one value
        try:
            connection.exec_driver_sql(f"BEGIN; CREATE EXTENSION IF NOT EXISTS {row.name} CASCADE".replace("%", "%%"))
        except DBAPIError as error:
            yield Skipped("extension", name, driver_message(error))
        finally:
            connection.exec_driver_sql("ROLLBACK")


def _object_of(line: str) -> tuple[str, str] | None:
    match = _ENTRY.match(line)
    return (match[1], match[2]) if match else None
