"""Reports of verifications and drills, stored beside their backup."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from app.storage.base import Store, StoredFile
from ops.backup.names import new_report_name

SCHEMA = "parley.backup-report/1"
MAX_BYTES = 1024 * 1024
MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Report:
    """A stored report of the `kind` drill or verify. `details` is the report of the command.

    `at` is the time of the database server for a drill and of this machine for a verification; `stored_at` is the
    store's.
    """

    kind: str
    ok: bool
    problems: tuple[str, ...]
    at: datetime
    stored_at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """Return the detail `name` if it is a number, else None."""
        value = self.details.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def store_report(store: Store, backup: str, kind: str, *, ok: bool, at: datetime, details: Mapping[str, Any]) -> None:
    """Store a report on the backup. Raises `StorageUnavailable`."""
    document = {"schema": SCHEMA, "kind": kind, "backup": backup, "ok": ok, "at": at, "details": details}
    with store.create(new_report_name(backup, kind, at)) as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str))


def load_report(store: Store, file: StoredFile, kind: str) -> Report | None:
    """Read a report. Returns None if it is invalid. Raises `StorageError`."""
    if file.size > MAX_BYTES:
        return None
    try:
        document = orjson.loads(b"".join(store.read(file.name)))
        details = document["details"]
        problems = tuple(map(str, details.get("problems", ())))
        return Report(kind, bool(document["ok"]), problems, _parse_time(document["at"]), file.stored_at, details)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def limit_problems(problems: list[str]) -> tuple[str, ...]:
    """Return the first 20 problems and, if there are more, their number."""
    more = len(problems) - MAX_PROBLEMS
    return (*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else []))


def _parse_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without a time zone")
    return time
