"""Settings that operators change at run time for all processes, such as the default provider: the table `settings`.

A process that uses them reads them again every two seconds, in the background: requests get the cached values, and wait
only after a pause without any use. A change is effective everywhere within five seconds. While the database is
unavailable, the last values hold; without any, a setting counts as not set.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine

from app.database import autocommit_engine
from app.errors import ParleyError
from app.repositories import runtime_settings as sql
from app.services.caches import Cache, CachePolicy
from app.services.operator_settings import Choice, read_choices

POLICY = CachePolicy(fresh_for=2, stale_for=5, max_wait=1, retry_after=2)


class RuntimeSettings:
    """The settings of one process by key. Thread-safe."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = autocommit_engine(engine)
        self._cache: Cache[str, Mapping[str, Choice]] = Cache(
            "runtime_settings", lambda _: self.read(), POLICY, clock=clock
        )

    def get(self, key: str) -> Choice | None:
        """Return the cached value of `key`, or None if it is not set. Waits at most a second; never raises."""
        try:
            return self._cache.get("all").get(key)
        except ParleyError:
            return None

    def last(self, key: str) -> Choice | None:
        """Return the cached value of `key` without a read, or None."""
        return (self._cache.last("all") or {}).get(key)

    def read(self) -> dict[str, Choice]:
        """Return all settings from the database. Raises `DatabaseUnavailable`."""
        return read_choices(self._engine)

    def put(self, key: str, value: Any, by: UUID | None) -> None:
        """Set a value, effective in this process at once."""
        with self._engine.connect() as connection:
            sql.PUT.one(connection, {"key": key, "value": orjson.dumps(value).decode(), "by": by})
        self._cache.invalidate("all")

    def remove(self, key: str) -> None:
        """Remove a value, effective in this process at once."""
        with self._engine.connect() as connection:
            sql.REMOVE.one(connection, {"key": key})
        self._cache.invalidate("all")
