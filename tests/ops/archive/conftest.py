"""A database of its own, and empty before each test: an archival archives whatever is idle."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.archived import engine, flask_app, settings

__all__ = ["engine", "flask_app", "settings"]

Execute = Callable[..., Any]


@pytest.fixture(autouse=True)
def _empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE users, archive_runs CASCADE"))


@pytest.fixture
def execute(engine: Engine) -> Execute:
    """Run a statement and commit it; returns its rows, if it has any."""

    def run(statement: str, **parameters: Any) -> Any:
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return result.all() if result.returns_rows else None

    return run


class Fixed:
    """A latency that is what it is set to."""

    quiet = True
    milliseconds: float | None = None

    def look(self) -> float | None:
        return self.milliseconds
