"""Verification of the audit: changed, missing and inserted events, and changed or missing seals."""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app.repositories import audit_seals as sql
from ops.runs.audit_seals import LOST_SECONDS, Seal, SealKey, microseconds

PAGE = 20  # seals
MAX_PROBLEMS = 20
MAX_CLOCK_DIFFERENCE = timedelta(hours=1)  # between the host that created an id, and the database
_START = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass
class Verification:
    """The result of a verification: the numbers it read, and a sentence per problem, at most `MAX_PROBLEMS`.

    `unknown_keys` are the ids of keys that are not set any more; their `unverified` seals could not be verified.
    """

    seals: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)
    unknown_keys: set[str] = field(default_factory=set)
    unverified: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it holds as many problems as are shown."""
        return len(self.problems) >= MAX_PROBLEMS


def verify_audit(connection: Connection, keys: Mapping[str, SealKey], *, newest: int | None = None) -> Verification:
    """Compare the events with their seals: all of them, or those of the `newest` seals."""
    result = Verification()
    found = sql.RANGE.one(connection, {})
    assert found is not None  # noqa: S101  # an aggregate
    if found.first != 1 or found.number_of_seals != found.last:
        missing = found.last - found.number_of_seals
        result.problems.append(f"{missing} of the seals 1 to {found.last} are missing")
    after = 0 if newest is None else max(0, found.last - newest)
    anchor = sql.GET.one(connection, {"number": after})
    previous, complete = (bytes(anchor.hash), anchor.complete_until) if anchor else (b"", _START)
    while not result.is_full and (page := sql.PAGE.all(connection, {"after": after, "batch": PAGE})):
        for row in page:
            result.problems += _problems_of_seal(connection, row, keys, previous, complete, result)
            previous, complete, after = bytes(row.hash), max(complete, row.complete_until), row.number
    foreign = {"last": found.last, "until": complete, "lost": LOST_SECONDS, "batch": MAX_PROBLEMS}
    for event in sql.FOREIGN.all(connection, foreign):
        result.problems.append(f"the event {event.id} ({event.action}) was inserted later than it claims")
    del result.problems[MAX_PROBLEMS:]
    return result


def _problems_of_seal(
    connection: Connection,
    row: Any,
    keys: Mapping[str, SealKey],
    previous: bytes,
    complete: datetime,
    result: Verification,
) -> Iterator[str]:
    result.seals += 1
    key = keys.get(row.key_id)
    if key is None:
        result.unknown_keys.add(row.key_id)
        result.unverified += 1
        return
    seal = Seal(row.number, row.sealed_at, row.complete_until, list(row.event_ids), bytes(row.event_hashes))
    if not hmac.compare_digest(key.hash_seal(seal, previous), bytes(row.hash)):
        yield f"the seal {row.number} of {row.sealed_at:%Y-%m-%d %H:%M} was changed, or the seal before it"
        return
    found = sql.EVENTS.all(connection, {"event_ids": seal.event_ids, "number": seal.number})
    events = {event.id: event for event in found}
    expected = dict(seal.hashes())
    result.events += len(expected)
    for event_id, digest in expected.items():
        event = events.pop(event_id, None)
        if event is None:
            yield f"the event {event_id} of the seal {seal.number} is missing"
        elif event.seal != seal.number or not hmac.compare_digest(key.hash_event(event), digest):
            yield f"the event {event_id} ({event.action}) was changed after it was sealed"
        elif _is_inserted(event, complete):
            yield f"the event {event_id} ({event.action}) was inserted later than it claims"
    for event in events.values():
        yield f"the event {event.id} ({event.action}) claims the seal {seal.number}, which does not contain it"


def _is_inserted(event: Any, complete: datetime) -> bool:
    """Return whether the event claims to be older than a seal that had all such events, or than its id."""
    ended = event.ended_us if event.ended_us is not None else event.created_us + LOST_SECONDS * 1_000_000
    if ended < microseconds(complete):
        return True
    event_id = UUID(event.id)
    difference = abs((event_id.int >> 80) * 1000 - event.created_us)
    return event_id.version != 7 or difference > MAX_CLOCK_DIFFERENCE / timedelta(microseconds=1)
