"""Sessions under concurrency: parallel refreshes, and logins during a change of password."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask_jwt_extended import decode_token
from sqlalchemy import Engine, event, text

from app.container import services
from app.database import autocommit
from app.errors import NotAuthenticated
from app.services import account_changes, sessions
from app.services.account_changes import PasswordCheck
from app.services.identity import Identity
from app.services.sessions import Client, Tokens
from tests.factories import PASSWORD, PASSWORD_HASH, LoggedInUser
from tests.waiting import wait_until


@pytest.fixture
def in_app(flask_app: Flask) -> Callable[..., Any]:
    """Return a function that calls a function in its own application context, as a request does."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        with flask_app.app_context():
            return function(*arguments)

    return call


@pytest.fixture
def open_session(in_app: Callable[..., Any], engine: Engine) -> Callable[..., tuple[Identity, Tokens]]:
    """Return a function that opens a session as a login does, without hashing."""

    def opened(user: LoggedInUser, client: Client = Client()) -> tuple[Identity, Tokens]:  # noqa: B008  # it is frozen
        with engine.begin() as connection:
            tokens: Tokens = in_app(sessions.open_session, connection, user.id, PASSWORD_HASH, client)
        claims = in_app(decode_token, tokens.access_token)
        return Identity(user.id, UUID(claims["sid"])), tokens

    return opened


def row_of(engine: Engine, identity: Identity) -> Any:
    with engine.connect() as connection:
        return connection.execute(
            text("SELECT * FROM sessions WHERE user_id = :u AND id = :s"),
            {"u": identity.user_id, "s": identity.session_id},
        ).one()


def wait_until_waiting(engine: Engine, how_many: int) -> None:
    """Wait until `how_many` connections to the test database wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        wait_until(
            lambda: connection.execute(waiting).scalar_one() >= how_many,
            f"fewer than {how_many} connections wait for a lock",
        )


def results(futures: list[Future[Any]]) -> tuple[list[Any], list[BaseException]]:
    """Return the results and the errors of the futures."""
    raised = [error for future in futures if (error := future.exception(timeout=30))]
    return [future.result() for future in futures if not future.exception()], raised


def test_identify_is_one_statement_and_returns_role(
    user: LoggedInUser, engine: Engine, in_app: Callable[..., Any]
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET role = 'operator' WHERE id = :u"), {"u": user.id})
    seen: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        identity = in_app(sessions.identify, Identity(user.id, user.session_id))
    finally:
        event.remove(engine, "before_cursor_execute", record)
    assert identity.role == "operator"
    assert len(seen) == 1
    assert seen[0].startswith("SELECT /* sessions.identify ")


def test_session_stores_truncated_client(
    user: LoggedInUser, engine: Engine, open_session: Callable[..., tuple[Identity, Tokens]]
) -> None:
    identity, _ = open_session(user, Client("f" * 60, "agent\x00" + "x" * 300))
    row = row_of(engine, identity)
    assert row.address == "f" * 45
    assert row.user_agent == ("agent\N{REPLACEMENT CHARACTER}" + "x" * 300)[:255]
    anonymous, _ = open_session(user, Client("", ""))
    assert row_of(engine, anonymous).address is row_of(engine, anonymous).user_agent is None


def test_row_has_hashes_but_no_token(
    user: LoggedInUser, engine: Engine, open_session: Callable[..., tuple[Identity, Tokens]]
) -> None:
    identity, tokens = open_session(user)
    stored = repr([bytes(value) if isinstance(value, memoryview) else value for value in row_of(engine, identity)])
    assert tokens.refresh_token not in stored
    assert tokens.refresh_token.rsplit(".", 1)[1] not in stored
    assert "refresh_token" not in repr(tokens)


TABS = 20


def refresh_at_once(
    engine: Engine, in_app: Callable[..., Any], identity: Identity, *presented: str
) -> tuple[list[Any], list[BaseException]]:
    """Refresh with all `presented` tokens at once: each one waits for the same row lock."""
    with ThreadPoolExecutor(len(presented)) as pool:
        with engine.begin() as holder:
            holder.execute(text("SELECT FROM sessions WHERE id = :s FOR UPDATE"), {"s": identity.session_id})
            futures = [pool.submit(in_app, sessions.refresh, identity, token) for token in presented]
            wait_until_waiting(engine, len(presented))
        return results(futures)


@pytest.mark.parametrize("grace", [sessions.GRACE, timedelta(0)], ids=["in grace time", "after grace time"])
def test_parallel_refreshes_get_same_token(
    user: LoggedInUser,
    engine: Engine,
    in_app: Callable[..., Any],
    open_session: Callable[..., tuple[Identity, Tokens]],
    monkeypatch: pytest.MonkeyPatch,
    grace: timedelta,
) -> None:
    """After the grace time of a lost answer, parallel refreshes with the old token share one second rotation."""
    identity, first = open_session(user)
    presented = first.refresh_token
    if not grace:
        in_app(sessions.refresh, identity, presented)
        monkeypatch.setattr(sessions, "GRACE", grace)
    for _ in range(1 if not grace else 3):
        pairs, raised = refresh_at_once(engine, in_app, identity, *[presented] * TABS)
        assert raised == []
        assert len({pair.refresh_token for pair in pairs}) == 1
        presented = pairs[0].refresh_token
        assert presented != first.refresh_token
    assert in_app(sessions.identify, identity).role == "user"


def test_parallel_refreshes_with_both_successors_end_session(
    user: LoggedInUser,
    engine: Engine,
    in_app: Callable[..., Any],
    open_session: Callable[..., tuple[Identity, Tokens]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "GRACE", timedelta(0))
    identity, tokens = open_session(user)
    successors = [in_app(sessions.refresh, identity, tokens.refresh_token).refresh_token for _ in range(2)]
    assert successors[0] != successors[1]
    _, raised = refresh_at_once(engine, in_app, identity, *successors)
    assert [type(error) for error in raised] == [NotAuthenticated]
    assert row_of(engine, identity).revoked_at is not None


def test_both_tabs_continue_after_parallel_refresh(
    user: LoggedInUser, in_app: Callable[..., Any], open_session: Callable[..., tuple[Identity, Tokens]]
) -> None:
    identity, first = open_session(user)
    one = in_app(sessions.refresh, identity, first.refresh_token)
    other = in_app(sessions.refresh, identity, first.refresh_token)
    assert one.refresh_token == other.refresh_token
    assert one.access_token != other.access_token
    next_of_one = in_app(sessions.refresh, identity, one.refresh_token)
    next_of_other = in_app(sessions.refresh, identity, other.refresh_token)
    assert next_of_one.refresh_token == next_of_other.refresh_token != one.refresh_token


def test_refresh_extends_session_to_full_lifetime(
    user: LoggedInUser,
    engine: Engine,
    in_app: Callable[..., Any],
    open_session: Callable[..., tuple[Identity, Tokens]],
) -> None:
    identity, first = open_session(user)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE sessions SET expires_at = now() + interval '1 minute' WHERE id = :s"),
            {"s": identity.session_id},
        )
    pair = in_app(sessions.refresh, identity, first.refresh_token)
    row = row_of(engine, identity)
    assert row.expires_at - row.rotated_at == timedelta(days=7)
    claims = in_app(decode_token, pair.refresh_token)
    assert claims["exp"] == int(row.expires_at.timestamp())
    assert claims["iat"] == int(row.rotated_at.timestamp())


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
@pytest.mark.parametrize("hours", [0, 5.5, -9])
def test_refresh_token_does_not_depend_on_time_zone(
    user: LoggedInUser, in_app: Callable[..., Any], microsecond: int, hours: float
) -> None:
    identity = Identity(user.id, user.session_id)
    now = datetime.now(UTC).replace(microsecond=microsecond)
    elsewhere = now.astimezone(timezone(timedelta(hours=hours)))
    token = in_app(sessions._refresh_token, identity, now, now + timedelta(days=7))
    repeated = in_app(sessions._refresh_token, identity, elsewhere, elsewhere + timedelta(days=7))
    later = in_app(sessions._refresh_token, identity, now + timedelta(microseconds=1), now + timedelta(days=7))
    assert token == repeated != later


def test_login_during_password_change_opens_no_session(
    user: LoggedInUser, engine: Engine, in_app: Callable[..., Any]
) -> None:
    def login() -> None:
        with autocommit() as connection:
            sessions.open_session(connection, user.id, PASSWORD_HASH, Client())

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as holder:
            holder.execute(text("UPDATE users SET password_hash = 'new' WHERE id = :u"), {"u": user.id})
            future = pool.submit(in_app, login)
            wait_until_waiting(engine, 1)
        _, raised = results([future])
    assert [type(error) for error in raised] == [NotAuthenticated]
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM sessions WHERE user_id = :u"), {"u": user.id})
        assert count.scalar_one() == 1  # the session of the fixture


def change_password(user_id: UUID) -> None:
    process = services()
    check = PasswordCheck(Client(), process.passwords, process.attempts)
    account_changes.change_password(user_id, PASSWORD, "another horse", check)


def test_password_change_revokes_session_being_opened(
    user: LoggedInUser, engine: Engine, in_app: Callable[..., Any]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as holder:
            in_app(sessions.open_session, holder, user.id, PASSWORD_HASH, Client())
            future = pool.submit(in_app, change_password, user.id)
            wait_until_waiting(engine, 1)
        assert results([future]) == ([None], [])
    with engine.connect() as connection:
        revoked = connection.execute(
            text("SELECT count(*), count(revoked_at) FROM sessions WHERE user_id = :u"), {"u": user.id}
        )
        assert revoked.one() == (2, 2)
