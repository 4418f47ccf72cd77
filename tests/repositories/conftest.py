"""Beginning turns straight in the database, on connections of one's own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from app.config import Settings
from app.services.begin import Begun, ChatCommand, Prior, begin
from app.services.identity import Identity
from app.services.running_turn import RunningTurn
from app.services.turn_limits import QuotaHolders
from tests.factories import Account


@pytest.fixture(scope="module")
def connections(settings: Settings, engine: Engine) -> Iterator[Engine]:
    """An AUTOCOMMIT engine of its own with room for every thread here."""
    assert settings.database.url
    own = create_engine(settings.database.url, pool_size=40, isolation_level="AUTOCOMMIT")
    yield own
    own.dispose()


@pytest.fixture
def start(connections: Engine, settings: Settings) -> Callable[..., Begun | Prior]:
    """A function that begins a turn of `account`; keyword arguments are of the command, but for `chat`, settings."""

    def start(
        account: Account, *, chat: dict[str, Any] | None = None, holders: QuotaHolders | None = None, **command: Any
    ) -> Begun | Prior:
        caller = command.pop("caller", None) or Identity(account.id, account.session_id)
        asked = ChatCommand(caller, **{"message": "hello", **command})
        with connections.connect() as connection:
            return begin(
                connection,
                asked,
                settings.chat.model_copy(update=chat or {}),
                "demo",
                QuotaHolders() if holders is None else holders,
            )

    return start


def silence(engine: Engine, turn: RunningTurn) -> None:
    """Make the attempt's worker look dead."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE turns SET heartbeat_at = now() - interval '1 hour' WHERE user_id = :u AND id = :t"),
            {"u": turn.user_id, "t": turn.id},
        )
