"""Seals of the audit: a keyed hash of each event, chained from batch to batch.

Events are sealed after they have ended, by a job, so recording an event waits for nothing. An event is part of a seal
by its id, not by a range of ids: one that is committed late is part of the next seal.
"""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from app.config.auth import Auth
from app.container import current_settings
from app.database import autocommit
from app.errors import SettingsError
from app.repositories import audit_seals as sql
from app.repositories.atomic import atomically
from ops.errors import AlreadyRunning
from ops.runs.batches import TimeBudget

FORMAT = 1
BATCH = 500  # events of one seal
# The result of an action is retried for 10 s, and refusals are counted for a minute: later, an event does not change.
GRACE_SECONDS = 180
LOST_SECONDS = 86_400  # an action that has not ended by then is sealed as begun
JOB_SECONDS = 180
HASH_BYTES = 16  # of an event

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = (
    "id", "actor_kind", "actor", "actor_id", "address", "action", "target", "result", "reason", "details", "request_id",
    "created_us", "ended_us",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key of seals, derived from a setting, and its public name."""

    secret: bytes = field(repr=False)
    id: str

    @classmethod
    def derive(cls, setting: str) -> "SealKey":
        """Return the key for a setting's value, for this purpose alone."""
        secret = hmac.digest(setting.encode(), b"parley audit seal", "sha256")
        return cls(secret, hmac.digest(secret, b"parley audit seal id", "sha256").hex()[:16])

    def hash_event(self, event: Any) -> bytes:
        """Return the keyed hash of an event, as the statements of `audit_seals` select it."""
        content = orjson.dumps([FORMAT, *(getattr(event, name) for name in _FIELDS)])
        return hmac.digest(self.secret, b"event" + content, "sha256")[:HASH_BYTES]

    def hash_seal(self, seal: "Seal", previous: bytes) -> bytes:
        """Return the keyed hash of a seal and of the one before, whose hash is `previous`."""
        times = [microseconds(seal.sealed_at), microseconds(seal.complete_until)]
        content = orjson.dumps([FORMAT, seal.number, previous.hex(), self.id, *times, seal.event_ids])
        return hmac.digest(self.secret, b"seal" + content + seal.event_hashes, "sha256")


@dataclass(frozen=True, slots=True)
class Seal:
    """The contents of a seal: its events' ids, and their hashes one after the other."""

    number: int
    sealed_at: datetime
    complete_until: datetime
    event_ids: list[str]
    event_hashes: bytes = field(repr=False)

    def hashes(self) -> Iterator[tuple[str, bytes]]:
        """Yield each id with its hash."""
        for position, event_id in enumerate(self.event_ids):
            yield event_id, self.event_hashes[position * HASH_BYTES : (position + 1) * HASH_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealReport:
    """New seals and the events in them. `more`: time ran out; the next run continues. `newest` is the last number."""

    seals: int
    events: int
    newest: int
    more: bool


def current_key(auth: Auth) -> SealKey:
    """Return the key of new seals. Raises `SettingsError` without AUDIT_KEY and JWT_SECRET_KEY."""
    setting = auth.audit_key or auth.jwt_secret_key
    if setting is None:
        raise SettingsError("AUDIT_KEY: set it or JWT_SECRET_KEY, so that the audit can be sealed")
    return SealKey.derive(setting.get_secret_value())


def known_keys(auth: Auth) -> Mapping[str, SealKey]:
    """Return all keys that older seals may have, by id."""
    settings = (auth.audit_key, *auth.audit_previous_keys, auth.jwt_secret_key, *auth.jwt_previous_keys)
    keys = (SealKey.derive(setting.get_secret_value()) for setting in settings if setting is not None)
    return {key.id: key for key in keys}


def seal_audit(*, grace_seconds: float = GRACE_SECONDS, seconds: float | None = JOB_SECONDS) -> SealReport:
    """Seal the events that ended more than `grace_seconds` ago, in batches, for at most `seconds`.

    Raises `SettingsError`, and `AlreadyRunning` if another process is sealing.
    """
    key, budget = current_key(current_settings().auth), TimeBudget(seconds)
    seals = events = 0
    with autocommit() as connection:
        while True:
            try:
                with atomically(connection):
                    sealed = _seal_batch(connection, key, grace_seconds)
            except IntegrityError:
                raise AlreadyRunning("Another process is sealing the audit.") from None
            seals, events = seals + bool(sealed), events + sealed
            if sealed < BATCH or budget.expired:
                newest = sql.NEWEST.one(connection, {})
                number = newest.number if newest is not None else 0
                return SealReport(seals=seals, events=events, newest=number, more=sealed == BATCH)


def microseconds(time: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    past = time - _EPOCH
    return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds


def _seal_batch(connection: Connection, key: SealKey, grace_seconds: float) -> int:
    """Seal one batch, and return its number of events. A batch of none makes no seal."""
    newest = sql.NEWEST.one(connection, {})
    number, previous, complete = (
        (newest.number, bytes(newest.hash), newest.complete_until) if newest else (0, b"", _EPOCH)
    )
    times = sql.COMPLETE_UNTIL.one(connection, {"grace": grace_seconds})
    assert times is not None  # noqa: S101  # it selects one row
    limits = {"until": times.until, "lost": LOST_SECONDS, "batch": BATCH}
    rows = sql.UNSEALED.all(connection, limits)
    if not rows:
        return 0
    # A full batch may leave events of the same time to the next one.
    until = max(complete, times.until) if len(rows) < BATCH else complete
    seal = Seal(number + 1, times.now, until, [row.id for row in rows], b"".join(map(key.hash_event, rows)))
    values = {
        "number": seal.number,
        "sealed_at": seal.sealed_at,
        "complete_until": seal.complete_until,
        "key_id": key.id,
        "event_ids": seal.event_ids,
        "event_hashes": seal.event_hashes,
        "hash": key.hash_seal(seal, previous),
    }
    sql.INSERT.one(connection, values)
    sql.MARK_EVENTS.all(connection, values)
    return len(rows)
