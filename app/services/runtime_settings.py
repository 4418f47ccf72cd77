"""The operator's choices that hold for every process, such as the provider in use: in the table `settings`.

A process reads them again while it uses them, every two seconds, beside its requests: those are told what it has, and
wait only after a pause in which nobody asked. A choice is heard everywhere within five seconds. While the database is
away, the last known one holds; one that was never read is none.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.errors import DatabaseUnavailable, ParleyError
from app.repositories import runtime_settings as sql
from app.services.caches import Ages, Cache

AGES = Ages(fresh=2, usable=5, wait=1, retry=2)


@dataclass(frozen=True, slots=True)
class Choice:
    """What an operator chose, when, and which account it was, if it was one."""

    value: Any
    at: datetime
    by: UUID | None


class RuntimeSettings:
    """Those that one process knows, by their keys. Thread-safe."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._cache: Cache[str, Mapping[str, Choice]] = Cache(
            "runtime_settings", lambda _: self.read(), AGES, clock=clock
        )

    def get(self, key: str) -> Choice | None:
        """What is chosen for `key`, as known here; None if nothing is. Waits at most a second; never raises."""
        try:
            return self._cache.get("all").get(key)
        except ParleyError:
            return None

    def last(self, key: str) -> Choice | None:
        """The same without looking or waiting."""
        return (self._cache.last("all") or {}).get(key)

    def read(self) -> dict[str, Choice]:
        """All of them, from the database. Raises `DatabaseUnavailable`."""
        try:
            with self._engine.connect() as connection:
                return {
                    row.key: Choice(row.value, row.updated_at, row.updated_by) for row in sql.ALL.all(connection, {})
                }
        except SQLAlchemyError as error:
            raise DatabaseUnavailable(f"The runtime settings could not be read: {type(error).__name__}.") from None

    def put(self, key: str, value: Any, by: UUID | None) -> None:
        """Choose; this process knows at once."""
        with self._engine.connect() as connection:
            sql.PUT.one(connection, {"key": key, "value": orjson.dumps(value).decode(), "by": by})
        self._cache.forget("all")

    def remove(self, key: str) -> None:
        """Choose nothing any more."""
        with self._engine.connect() as connection:
            sql.REMOVE.one(connection, {"key": key})
        self._cache.forget("all")
