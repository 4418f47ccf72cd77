"""`last_used_at` of API keys: at most two minutes old, written in the background."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, text

from app.extensions import db
from app.services import key_uses
from app.services.identity import Identity, PresentedKey
from app.services.key_uses import KeyUses
from tests.api.keys import Key, change_key, make_key, statements_of
from tests.api.responses import bearer
from tests.factories import LoggedInUser
from tests.waiting import wait_until


@pytest.fixture
def uses(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> KeyUses:
    """Return `KeyUses` as of another process, with a shorter delay."""
    monkeypatch.setattr(key_uses, "BATCH_SECONDS", 0.05)
    return KeyUses(engine)


@pytest.fixture
def key(flask_app: Flask, user: LoggedInUser) -> Key:
    return make_key(flask_app, user)


@pytest.fixture
def caller(user: LoggedInUser, key: Key) -> Identity:
    return Identity(user.id, key=PresentedKey(key.id, b""))


def last_used(engine: Engine, key: Key) -> datetime | None:
    with engine.connect() as connection:
        last_used_at: datetime | None = connection.execute(
            text("SELECT last_used_at FROM api_keys WHERE id = :k"), {"k": key.id}
        ).scalar_one()
        return last_used_at


def idle(uses: KeyUses) -> None:
    """Wait until all uses are written and the thread has ended."""
    wait_until(lambda: not uses._running)


def test_parallel_uses_are_written_once_in_background(flask_app: Flask, engine: Engine, key: Key) -> None:
    assert last_used(engine, key) is None
    uses: KeyUses = flask_app.extensions["parley"].key_uses
    idle(uses)
    with statements_of(engine) as seen, ThreadPoolExecutor(50) as pool:
        statuses = list(
            pool.map(lambda _: flask_app.test_client().get("/api/projects", headers=key.headers).status_code, range(50))
        )
        assert statuses == [200] * 50
        wait_until(lambda: last_used(engine, key))
        first = last_used(engine, key)
        assert flask_app.test_client().get("/api/projects", headers=key.headers).status_code == 200
        idle(uses)
    assert seen.count("api_keys.identify") == 51
    assert seen.count("api_keys.touch") == 1
    assert last_used(engine, key) == first


def test_chat_is_a_use(chat_app: Flask, upstream: Any, user: LoggedInUser, engine: Engine) -> None:
    key = make_key(chat_app, user)
    assert chat_app.test_client().post("/api/chat", json={"message": "hi"}, headers=key.headers).status_code == 200
    wait_until(lambda: last_used(engine, key))


def test_refused_request_is_not_a_use(
    flask_app: Flask, client: FlaskClient, chat_client: FlaskClient, engine: Engine, user: LoggedInUser
) -> None:
    revoked, lacking = make_key(flask_app, user), make_key(flask_app, user, ["read"])
    change_key(engine, revoked, "revoked_at = now()")
    wrong = bearer(lacking.secret[:-1] + ("A" if lacking.secret[-1] != "A" else "B"))
    for headers in (revoked.headers, lacking.headers, wrong):
        assert client.post("/api/projects", json={"name": "x"}, headers=headers).status_code in (401, 403)
        assert chat_client.post("/api/chat", json={"message": "x"}, headers=headers).status_code in (401, 403)
        assert chat_client.post("/api/chat", json={"message": ""}, headers=headers).status_code == 400
    for application in (client.application, chat_client.application):
        idle(application.extensions["parley"].key_uses)
    assert last_used(engine, revoked) is None
    assert last_used(engine, lacking) is None


def test_use_is_written_again_after_a_minute(
    uses: KeyUses, engine: Engine, key: Key, caller: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    uses.note(caller)
    wait_until(lambda: last_used(engine, key))
    first = last_used(engine, key)
    monkeypatch.setattr(key_uses, "WRITE_INTERVAL", 0.0)  # the minute has passed
    uses.note(caller)
    wait_until(lambda: last_used(engine, key) != first)
    idle(uses)
    assert uses._written == {}  # expired entries are removed


def test_use_written_by_other_process_is_not_repeated(
    uses: KeyUses, engine: Engine, key: Key, caller: Identity
) -> None:
    uses.note(caller)
    wait_until(lambda: last_used(engine, key))
    first = last_used(engine, key)
    other = KeyUses(engine)
    with statements_of(engine) as seen:
        other.note(caller)
        wait_until(lambda: "api_keys.touch" in seen)
        idle(other)
    assert last_used(engine, key) == first


def test_locked_row_is_skipped(
    flask_app: Flask, uses: KeyUses, engine: Engine, user: LoggedInUser, key: Key, caller: Identity
) -> None:
    free = make_key(flask_app, user)
    with engine.begin() as holder:
        holder.execute(text("SELECT FROM api_keys WHERE id = :k FOR UPDATE"), {"k": key.id})
        uses.note(caller)
        uses.note(Identity(user.id, key=PresentedKey(free.id, b"")))
        wait_until(lambda: last_used(engine, free))
    idle(uses)
    assert last_used(engine, key) is None


def test_session_is_not_recorded(uses: KeyUses, user: LoggedInUser) -> None:
    uses.note(Identity(user.id, user.session_id))
    assert not uses._running


@pytest.fixture
def unreachable() -> Iterator[Engine]:
    """Yield an engine of an unreachable server."""
    engine = create_engine("postgresql+psycopg2://user@127.0.0.1:1/nothing", connect_args={"connect_timeout": 2})
    yield engine
    engine.dispose()


def test_unavailable_database_is_logged(
    unreachable: Engine, caller: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_uses, "BATCH_SECONDS", 0.05)
    uses = KeyUses(unreachable)
    uses.note(caller)
    idle(uses)
    assert "last uses of 1 API keys were not written: OperationalError" in caplog.text


def test_use_of_deleted_key_writes_nothing(uses: KeyUses, engine: Engine, user: LoggedInUser, key: Key) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM api_keys WHERE user_id = :u"), {"u": user.id})
    with statements_of(engine) as seen:
        uses.note(Identity(user.id, key=PresentedKey(key.id, b"")))
        wait_until(lambda: "api_keys.touch" in seen)
    idle(uses)


def test_engine_is_that_of_application(flask_app: Flask) -> None:
    with flask_app.app_context():
        assert flask_app.extensions["parley"].key_uses._engine.pool is db.engine.pool
