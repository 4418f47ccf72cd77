"""Fixtures: a separate database, emptied before each test, because a run bundles every idle conversation."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.bundling import engine, flask_app, settings

__all__ = ["engine", "flask_app", "settings"]

Execute = Callable[..., Any]


@pytest.fixture(autouse=True)
def _empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE users, archive_runs CASCADE"))


@pytest.fixture
def execute(engine: Engine) -> Execute:
    """Return a function that runs and commits a statement, and returns its rows, if any."""

    def run(statement: str, **parameters: Any) -> Any:
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return result.all() if result.returns_rows else None

    return run


class FixedLatency:
    """A latency source with a settable value."""

    chats_idle = True
    milliseconds: float | None = None

    def sample(self) -> float | None:
        return self.milliseconds
