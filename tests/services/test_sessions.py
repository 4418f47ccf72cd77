"""Sessions under real concurrency: refreshes that meet on one row, and logins that meet a change of password."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask_jwt_extended import decode_token
from sqlalchemy import Engine, event, text

from app.errors import NotAuthenticated
from app.services import accounts, sessions
from app.services.identity import Identity
from app.services.sessions import Client, Tokens
from tests.factories import PASSWORD, PASSWORD_HASH, Account


@pytest.fixture
def in_app(flask_app: Flask) -> Callable[..., Any]:
    """Call something in an application context of its own, as a request would."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        with flask_app.app_context():
            return function(*arguments)

    return call


@pytest.fixture
def open_session(in_app: Callable[..., Any], engine: Engine) -> Callable[..., tuple[Identity, Tokens]]:
    """Open a session as a login does, without the cost of one."""

    def opened(user: Account, client: Client = Client()) -> tuple[Identity, Tokens]:  # noqa: B008  # it is frozen
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
    """Until `how_many` connections to this worker's database wait for a lock."""
    pause = threading.Event()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(2_000):
            waiting = connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )
            if waiting.scalar_one() >= how_many:
                return
            pause.wait(0.005)
    raise AssertionError(f"{how_many} connections never came to wait")


def results(futures: list[Future[Any]]) -> tuple[list[Any], list[BaseException]]:
    """What they returned, and what they raised."""
    raised = [error for future in futures if (error := future.exception(timeout=30))]
    return [future.result() for future in futures if not future.exception()], raised


def test_identify_is_one_named_statement_and_returns_the_databases_role(
    user: Account, engine: Engine, in_app: Callable[..., Any]
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET role = 'operator' WHERE id = :u"), {"u": user.id})
    seen: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", listen)
    try:
        identity = in_app(sessions.identify, Identity(user.id, user.session_id))
    finally:
        event.remove(engine, "before_cursor_execute", listen)
    assert identity.role == "operator"
    assert len(seen) == 1
    assert seen[0].startswith("SELECT /* sessions.identify ")


def test_a_session_keeps_where_it_came_from_as_far_as_it_fits(
    user: Account, engine: Engine, open_session: Callable[..., tuple[Identity, Tokens]]
) -> None:
    identity, _ = open_session(user, Client("f" * 60, "agent\x00" + "x" * 300))
    row = row_of(engine, identity)
    assert row.address == "f" * 45
    assert row.user_agent == ("agent\N{REPLACEMENT CHARACTER}" + "x" * 300)[:255]
    anonymous, _ = open_session(user, Client("", ""))
    assert row_of(engine, anonymous).address is row_of(engine, anonymous).user_agent is None


def test_the_row_holds_hashes_and_no_token(
    user: Account, engine: Engine, open_session: Callable[..., tuple[Identity, Tokens]]
) -> None:
    identity, tokens = open_session(user)
    stored = repr([bytes(value) if isinstance(value, memoryview) else value for value in row_of(engine, identity)])
    assert tokens.refresh_token not in stored
    assert tokens.refresh_token.rsplit(".", 1)[1] not in stored
    assert "refresh_token" not in repr(tokens)


def test_two_parallel_refreshes_get_the_same_token_and_a_third_ends_the_session(
    user: Account,
    engine: Engine,
    in_app: Callable[..., Any],
    open_session: Callable[..., tuple[Identity, Tokens]],
) -> None:
    identity, first = open_session(user)
    with ThreadPoolExecutor(2) as pool:
        with engine.begin() as holder:
            holder.execute(text("SELECT FROM sessions WHERE id = :s FOR UPDATE"), {"s": identity.session_id})
            futures = [pool.submit(in_app, sessions.refresh, identity, first.refresh_token) for _ in range(2)]
            wait_until_waiting(engine, 2)
        pairs, raised = results(futures)
    assert raised == []
    assert pairs[0].refresh_token == pairs[1].refresh_token != first.refresh_token
    assert in_app(sessions.identify, identity).role == "user"

    with pytest.raises(NotAuthenticated, match="used before"):
        in_app(sessions.refresh, identity, first.refresh_token)
    with pytest.raises(NotAuthenticated, match="ended"):
        in_app(sessions.identify, identity)
    with pytest.raises(NotAuthenticated, match="ended"):
        in_app(sessions.refresh, identity, pairs[0].refresh_token)


def test_of_many_parallel_refreshes_two_succeed_and_the_session_ends(
    user: Account,
    engine: Engine,
    in_app: Callable[..., Any],
    open_session: Callable[..., tuple[Identity, Tokens]],
) -> None:
    identity, first = open_session(user)
    with ThreadPoolExecutor(6) as pool:
        with engine.begin() as holder:
            holder.execute(text("SELECT FROM sessions WHERE id = :s FOR UPDATE"), {"s": identity.session_id})
            futures = [pool.submit(in_app, sessions.refresh, identity, first.refresh_token) for _ in range(6)]
            wait_until_waiting(engine, 6)
        pairs, raised = results(futures)
    assert len(pairs) == 2
    assert [type(error) for error in raised] == [NotAuthenticated] * 4
    assert row_of(engine, identity).revoked_at is not None


def test_the_two_tabs_can_both_go_on(
    user: Account, in_app: Callable[..., Any], open_session: Callable[..., tuple[Identity, Tokens]]
) -> None:
    identity, first = open_session(user)
    one = in_app(sessions.refresh, identity, first.refresh_token)
    other = in_app(sessions.refresh, identity, first.refresh_token)
    assert one.refresh_token == other.refresh_token
    assert one.access_token != other.access_token
    next_of_one = in_app(sessions.refresh, identity, one.refresh_token)
    next_of_other = in_app(sessions.refresh, identity, other.refresh_token)
    assert next_of_one.refresh_token == next_of_other.refresh_token != one.refresh_token


def test_a_refresh_makes_the_session_last_its_full_life_again(
    user: Account,
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
def test_a_refresh_token_is_the_same_whatever_the_time_zone_of_the_database(
    user: Account, in_app: Callable[..., Any], microsecond: int, hours: float
) -> None:
    identity = Identity(user.id, user.session_id)
    now = datetime.now(UTC).replace(microsecond=microsecond)
    elsewhere = now.astimezone(timezone(timedelta(hours=hours)))
    token = in_app(sessions._refresh_token, identity, now, now + timedelta(days=7))
    again = in_app(sessions._refresh_token, identity, elsewhere, elsewhere + timedelta(days=7))
    later = in_app(sessions._refresh_token, identity, now + timedelta(microseconds=1), now + timedelta(days=7))
    assert token == again != later


def test_a_login_that_meets_a_change_of_password_opens_nothing(
    user: Account, engine: Engine, in_app: Callable[..., Any]
) -> None:
    def login() -> None:
        with sessions.autocommit() as connection:
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
        assert count.scalar_one() == 1  # the one that the user came with


def test_a_change_of_password_ends_the_session_that_is_just_being_opened(
    user: Account, engine: Engine, in_app: Callable[..., Any]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as holder:
            in_app(sessions.open_session, holder, user.id, PASSWORD_HASH, Client())
            future = pool.submit(in_app, accounts.change_password, user.id, PASSWORD, "another horse", Client())
            wait_until_waiting(engine, 1)
        assert results([future]) == ([None], [])
    with engine.connect() as connection:
        revoked = connection.execute(
            text("SELECT count(*), count(revoked_at) FROM sessions WHERE user_id = :u"), {"u": user.id}
        )
        assert revoked.one() == (2, 2)
