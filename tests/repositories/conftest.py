"""Fixtures that begin turns directly in the database, on separate connections."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text

from app.config import Settings
from app.services.identity import Identity
from app.turns.attempt import Attempt, ChatCommand, begin_parameters
from app.turns.begin import begin
from app.turns.decision import Attach, Start
from app.turns.limits import QuotaHolders
from app.turns.remote import RemoteTurnPoller
from app.turns.retry import ExistingTurn, resume_or_retry
from app.turns.stream import RunningTurn
from tests.factories import LoggedInUser

StartTurn = Callable[..., Attempt | ExistingTurn]
RetryTurn = Callable[..., Attach | Start]


@pytest.fixture(scope="module")
def connections(settings: Settings, engine: Engine) -> Iterator[Engine]:
    """Yield an AUTOCOMMIT engine with a connection for each thread of the tests."""
    assert settings.database.url
    own_engine = create_engine(settings.database.url, pool_size=40, isolation_level="AUTOCOMMIT")
    yield own_engine
    own_engine.dispose()


@pytest.fixture
def start(connections: Engine, settings: Settings) -> StartTurn:
    """Return a function that begins a turn; `chat` changes settings, the rest are fields of the command."""

    def start(
        account: LoggedInUser, *, chat: dict[str, Any] | None = None, holders: QuotaHolders | None = None, **fields: Any
    ) -> Attempt | ExistingTurn:
        caller = fields.pop("caller", None) or Identity(account.id, account.session_id)
        command = ChatCommand(caller, **{"message": "hello", **fields})
        parameters = begin_parameters(command, settings.chat.model_copy(update=chat or {}), "demo")
        with connections.connect() as connection:
            return begin(connection, command, parameters, QuotaHolders() if holders is None else holders)

    return start


@pytest.fixture
def retry(connections: Engine, settings: Settings) -> RetryTurn:
    """Return a function that repeats the request of the turn `turn_id`; `chat` changes settings."""

    def retry(account: LoggedInUser, turn_id: UUID, *, chat: dict[str, Any]) -> Attach | Start:
        command = ChatCommand(Identity(account.id, account.session_id), "hello", idempotency_key="once")
        parameters = begin_parameters(command, settings.chat.model_copy(update=chat), "demo")
        remote = RemoteTurnPoller(connections, settings.chat.stale_seconds)
        with connections.connect() as connection:
            return resume_or_retry(connection, command, parameters, ExistingTurn(turn_id), remote, QuotaHolders())

    return retry


def make_stale(engine: Engine, turn: RunningTurn) -> None:
    """Make the attempt stale, as if its process had stopped."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE turns SET heartbeat_at = now() - interval '1 hour' WHERE user_id = :u AND id = :t"),
            {"u": turn.user_id, "t": turn.id},
        )
