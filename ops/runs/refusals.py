"""Refused requests to the admin API in the audit: one event per caller and minute, with their number.

A background thread writes them once a second and together, so that no refused request waits for the database, and a
flood of refused requests is no flood of writes. A killed process loses the last second of the count.
"""

import hashlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import orjson
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit_engine
from app.ids import new_id
from app.repositories.audit_events import COUNT_REFUSED
from app.services.ticker import Ticker
from ops.runs.actors import Actor

ACTION = "admin.refused"
MINUTE = 60
FLUSH_SECONDS = 1.0
MAX_CALLERS = 20  # with an event of their own, per kind of caller, minute and process
MAX_ROUTES = 10  # listed in one event
OTHERS = "others"  # the name of all further callers
MAX_WAITING = 1000  # events that wait for the database

_log = logging.getLogger("parley.ops")


def current_minute() -> int:
    """Return the number of minutes since 1970."""
    return int(time.time()) // MINUTE


@dataclass
class _Refusals:
    """The refusals of one caller in one minute that are not written yet."""

    actor: Actor
    minute: int
    requests: int = 0
    routes: set[str] = field(default_factory=set)


class RefusalCounter:
    """The refusals of one process. Thread-safe; its thread runs only while some wait to be written."""

    def __init__(self, engine: Engine, clock: Callable[[], int] = current_minute) -> None:
        self._clock = clock
        self._engine = autocommit_engine(engine)
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str, int], _Refusals] = {}
        self._minute = 0
        self._named: defaultdict[str, set[str]] = defaultdict(set)  # callers of the current minute, by kind
        self._ticker = Ticker("refusals", FLUSH_SECONDS, self._tick)

    def note(self, actor: Actor, route: str) -> None:
        """Count a refused request. `route` is its status, method and path without ids."""
        with self._lock:
            actor = self._named_actor(actor, self._clock())
            key = (actor.kind, actor.name, self._minute)
            if key not in self._waiting and len(self._waiting) >= MAX_WAITING:
                _log.warning("refused requests of %s are not counted: the database does not answer", actor.name)
                return
            refusals = self._waiting.setdefault(key, _Refusals(actor, self._minute))
            refusals.requests += 1
            if len(refusals.routes) < MAX_ROUTES:
                refusals.routes.add(route)
        self._ticker.wake()

    def flush(self) -> None:
        """Write what waits. If the database is unavailable, it waits on."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        while waiting:
            key, refusals = waiting.popitem()
            try:
                self._write(refusals)
            except SQLAlchemyError as error:
                _log.warning("refused requests were not written to the audit yet: %s", type(error).__name__)
                self._put_back({key: refusals, **waiting})
                self._ticker.wake()
                return

    def _named_actor(self, actor: Actor, minute: int) -> Actor:
        """Return the caller, or `OTHERS` for one too many of its kind in this minute."""
        if minute != self._minute:
            self._minute = minute
            self._named.clear()
        named = self._named[actor.kind]
        if actor.name not in named and len(named) >= MAX_CALLERS:
            return Actor(kind=actor.kind, name=OTHERS)
        named.add(actor.name)
        return actor

    def _tick(self) -> bool:
        self.flush()
        with self._lock:
            return bool(self._waiting)

    def _put_back(self, unwritten: dict[tuple[str, str, int], _Refusals]) -> None:
        with self._lock:
            for key, refusals in unwritten.items():
                current = self._waiting.setdefault(key, _Refusals(refusals.actor, refusals.minute))
                current.requests += refusals.requests
                current.routes |= refusals.routes

    def _write(self, refusals: _Refusals) -> None:
        actor = refusals.actor
        values = {
            "actor_kind": actor.kind,
            "actor": actor.name[:255],
            "actor_id": actor.user_id,
            "address": actor.address,
            "action": ACTION,
            "requests": refusals.requests,
            "routes": orjson.dumps(sorted(refusals.routes)).decode(),
            "max_routes": MAX_ROUTES,
        }
        with self._engine.connect() as connection:
            counted = COUNT_REFUSED.one(connection, {**values, "id": event_id(actor, refusals.minute)})
            if counted is None:  # its event is sealed, because the database did not answer for minutes
                COUNT_REFUSED.one(connection, {**values, "id": new_id()})


def event_id(actor: Actor, minute: int) -> UUID:
    """Return the id of the event of a caller and minute: a UUIDv7 with the minute's time, the same in all processes."""
    digest = hashlib.sha256(f"{ACTION} {actor.kind} {actor.name} {minute}".encode()).digest()
    value = bytearray((minute * MINUTE * 1000).to_bytes(6) + digest[:10])
    value[6] = value[6] & 0x0F | 0x70
    value[8] = value[8] & 0x3F | 0x80
    return UUID(bytes=bytes(value))
