"""`last_used_at`: true within a minute or two, and next to free."""

import threading
from collections.abc import Callable, Iterator
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
from tests.api.keys import Key, bearer, change_key, make_key, statements_of
from tests.factories import Account


@pytest.fixture
def uses(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> KeyUses:
    """Those of a process of its own, which gathers for less long."""
    monkeypatch.setattr(key_uses, "GATHER", 0.05)
    return KeyUses(engine)


@pytest.fixture
def key(flask_app: Flask, user: Account) -> Key:
    return make_key(flask_app, user)


@pytest.fixture
def caller(user: Account, key: Key) -> Identity:
    return Identity(user.id, key=PresentedKey(key.id, b""))


def last_used(engine: Engine, key: Key) -> datetime | None:
    with engine.connect() as connection:
        found: datetime | None = connection.execute(
            text("SELECT last_used_at FROM api_keys WHERE id = :k"), {"k": key.id}
        ).scalar_one()
        return found


def wait_until(condition: Callable[[], Any]) -> None:
    """Poll a bounded number of times; the database has no event for a row that is written."""
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail("the awaited state never came")


def idle(uses: KeyUses) -> None:
    """Until everything has been written and the thread has gone."""
    wait_until(lambda: not uses._running)


def test_fifty_parallel_uses_are_one_write_off_the_request_path(flask_app: Flask, engine: Engine, key: Key) -> None:
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


def test_a_chat_counts_as_a_use(chat_app: Flask, upstream: Any, user: Account, engine: Engine) -> None:
    key = make_key(chat_app, user)
    assert chat_app.test_client().post("/api/chat", json={"message": "hi"}, headers=key.headers).status_code == 200
    wait_until(lambda: last_used(engine, key))


def test_what_was_refused_was_no_use(
    flask_app: Flask, client: FlaskClient, chat_client: FlaskClient, engine: Engine, user: Account
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


def test_a_use_is_written_again_after_a_minute(
    uses: KeyUses, engine: Engine, key: Key, caller: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    uses.note(caller)
    wait_until(lambda: last_used(engine, key))
    first = last_used(engine, key)
    monkeypatch.setattr(key_uses, "EVERY", 0.0)  # the minute has passed
    uses.note(caller)
    wait_until(lambda: last_used(engine, key) != first)
    idle(uses)
    assert uses._known == {}  # what is old is forgotten


def test_another_process_that_has_just_written_is_enough(
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


def test_a_row_that_is_held_by_somebody_is_passed_over(
    flask_app: Flask, uses: KeyUses, engine: Engine, user: Account, key: Key, caller: Identity
) -> None:
    free = make_key(flask_app, user)
    with engine.begin() as holder:
        holder.execute(text("SELECT FROM api_keys WHERE id = :k FOR UPDATE"), {"k": key.id})
        uses.note(caller)
        uses.note(Identity(user.id, key=PresentedKey(free.id, b"")))
        wait_until(lambda: last_used(engine, free))
    idle(uses)
    assert last_used(engine, key) is None


def test_callers_with_a_session_are_no_business_of_it(uses: KeyUses, user: Account) -> None:
    uses.note(Identity(user.id, user.session_id))
    assert not uses._running


@pytest.fixture
def nowhere() -> Iterator[Engine]:
    """An engine whose server is not there."""
    engine = create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/nothing", connect_args={"connect_timeout": 2})
    yield engine
    engine.dispose()


def test_a_database_that_is_away_costs_a_log_line_and_nothing_else(
    nowhere: Engine, caller: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_uses, "GATHER", 0.05)
    uses = KeyUses(nowhere)
    uses.note(caller)
    idle(uses)
    assert "last uses of 1 API keys were not written: OperationalError" in caplog.text


def test_uses_of_keys_that_are_gone_write_nothing(uses: KeyUses, engine: Engine, user: Account, key: Key) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM api_keys WHERE user_id = :u"), {"u": user.id})
    with statements_of(engine) as seen:
        uses.note(Identity(user.id, key=PresentedKey(key.id, b"")))
        wait_until(lambda: "api_keys.touch" in seen)
    idle(uses)


def test_the_engine_is_the_applications_own(flask_app: Flask) -> None:
    with flask_app.app_context():
        assert flask_app.extensions["parley"].key_uses._engine.pool is db.engine.pool
