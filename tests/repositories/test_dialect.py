"""The first connection of each engine: SQLAlchemy reads the server's version on it."""

from collections.abc import Callable
from typing import Any, ClassVar

import psycopg2.extensions
import pytest
from sqlalchemy import Engine, event, text

from app.config import Settings
from app.database import autocommit_engine, make_engine

IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE


class Watched(psycopg2.extensions.connection):
    """A connection that records, after each statement, whether a transaction is open."""

    open_transactions: ClassVar[list[bool]] = []

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        return super().cursor(*arguments, **{**options, "cursor_factory": WatchedCursor})


class WatchedCursor(psycopg2.extensions.cursor):
    def execute(self, *arguments: Any) -> None:
        super().execute(*arguments)
        Watched.open_transactions.append(self.connection.info.transaction_status != IDLE)


@pytest.mark.parametrize("options", [lambda engine: engine, autocommit_engine], ids=["plain", "AUTOCOMMIT"])
def test_first_connection_opens_no_transaction_of_its_own(
    settings: Settings, options: Callable[[Engine], Engine]
) -> None:
    assert settings.database.url
    engine = make_engine(settings.database.url, connect_args={"connection_factory": Watched})
    Watched.open_transactions.clear()
    initial: list[bool] = []
    event.listen(engine, "engine_connect", lambda _: initial.extend(Watched.open_transactions))
    with options(engine).connect() as connection:
        assert initial  # SQLAlchemy has read the version
        assert not any(initial)
        assert engine.dialect.server_version_info
        connection.execute(text("SELECT 1"))
        in_transaction = Watched.open_transactions[-1]
    assert in_transaction == (options is not autocommit_engine)
    engine.dispose()
