"""What a verification or a drill found, kept beside the backup it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from ops.backup.names import new_report_name
from ops.backup.stores.base import Entry, Store

SCHEMA = "parley.backup-report/1"
LIMIT = 1024 * 1024  # bytes
PROBLEMS = 20  # as many are told; the rest is counted


@dataclass(frozen=True, slots=True)
class Report:
    """`stored_at` is by the store's clock, `at` by the clock of who looked; `details` are what the command reported."""

    kind: str
    ok: bool
    problems: tuple[str, ...]
    at: datetime
    stored_at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """One of the details, if it is a number."""
        value = self.details.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def keep_report(store: Store, backup: str, kind: str, *, ok: bool, at: datetime, details: Mapping[str, Any]) -> None:
    """Store a report on `backup`. Raises `StoreFailed`."""
    document = {"schema": SCHEMA, "kind": kind, "backup": backup, "ok": ok, "at": at, "details": details}
    with store.writing(new_report_name(backup, kind, at)) as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str))


def read_report(store: Store, entry: Entry, kind: str) -> Report | None:
    """None for one that cannot be understood. Raises `StoreFailed`."""
    if entry.size > LIMIT:
        return None
    try:
        document = orjson.loads(b"".join(store.reading(entry.name)))
        details = document["details"]
        problems = tuple(map(str, details.get("problems", ())))
        return Report(kind, bool(document["ok"]), problems, _moment(document["at"]), entry.stored_at, details)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def told(problems: list[str]) -> tuple[str, ...]:
    """The first ones, and how many there are beyond them."""
    more = len(problems) - PROBLEMS
    return (*problems[:PROBLEMS], *([f"and {more} more"] if more > 0 else []))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment
