"""Operators and people's accounts: opened, kept out, promoted, exported, erased with a receipt."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.errors import EmailTaken, InvalidInput, NotFound
from app.models import UserRole
from app.models.columns import new_id
from app.repositories.owned import OWNER, count_rows, owned_tables
from app.services.account_exports import SECRETS
from ops.accounts import keys, people
from ops.accounts.erasure import AccountHeld, erase, erasures, plan_erasure
from ops.accounts.export import Exported, write_account
from ops.accounts.reading import opened_account, opened_conversation
from ops.actors import Actor
from ops.audit import acts
from ops.doctor import examine, select
from ops.levels import Level
from tests.api.keys import make_key
from tests.factories import PASSWORD, Account

ME = Actor(kind="command", name="tester@here")


@pytest.fixture(autouse=True)
def _context(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield


@pytest.fixture
def somebody(client: FlaskClient, user: Account) -> Account:
    """Who has something of everything."""
    for path, body in (
        ("/api/projects", {"name": "Heating"}),
        ("/api/chat", {"message": "hello"}),
        ("/api/chat", {"message": "again"}),
        ("/api/auth/keys", {"name": "mine", "scopes": ["read"]}),
    ):
        assert client.post(path, json=body, headers=user.headers).status_code in (200, 201)
    return user


def run(engine: Engine, statement: str, **parameters: Any) -> list[Any]:
    with engine.begin() as connection:
        result = connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else []


def export_account(*, user_id: UUID, path: Path) -> Exported:
    with opened_account(user_id=user_id, by=ME, reason="they asked for it") as opened:
        return write_account(opened, path=path)


def conversations_of(engine: Engine, account: Account) -> list[UUID]:
    return [row.id for row in run(engine, "SELECT id FROM conversations WHERE user_id = :u ORDER BY id", u=account.id)]


def test_an_account_is_opened_and_logs_in(client: FlaskClient) -> None:
    email = f"{new_id().hex}@example.org"
    made = people.create(email=email, name="Ada", password=PASSWORD, role=UserRole.OPERATOR)
    assert people.id_of(email.upper()) == people.id_of(str(made.id)) == made.id
    answer = client.post("/api/auth/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200
    with pytest.raises(EmailTaken):
        people.create(email=email.upper(), name="Ada", password=PASSWORD)
    with pytest.raises(InvalidInput):
        people.create(email=f"{new_id().hex}@example.org", name="Ada", password="short")
    with pytest.raises(NotFound):
        people.id_of("nobody@example.org")
    with pytest.raises(NotFound):
        people.id_of(str(new_id()))


def test_who_is_disabled_is_out_at_once_and_back_after_a_new_login(client: FlaskClient, somebody: Account) -> None:
    people.disable(user_id=somebody.id)
    assert client.get("/api/auth/me", headers=somebody.headers).status_code == 401
    refused = client.post("/api/auth/login", json={"email": somebody.email, "password": PASSWORD})
    assert refused.status_code == 403
    people.enable(user_id=somebody.id)
    assert client.get("/api/auth/me", headers=somebody.headers).status_code == 401
    assert client.post("/api/auth/login", json={"email": somebody.email, "password": PASSWORD}).status_code == 200


def test_a_role_holds_from_the_next_request_on(client: FlaskClient, user: Account) -> None:
    assert people.set_role(user_id=user.id, role=UserRole.ADMIN).role == "admin"
    assert client.get("/api/auth/me", headers=user.headers).get_json()["role"] == "admin"


def test_sessions_end_and_keys_stay(flask_app: Flask, client: FlaskClient, user: Account) -> None:
    key = make_key(flask_app, user)
    people.end_sessions(user_id=user.id)
    assert client.get("/api/auth/me", headers=user.headers).status_code == 401
    assert client.get("/api/conversations", headers=key.headers).status_code == 200
    [told] = keys.keys(user_id=user.id)
    assert keys.revoke(user_id=user.id, key_id=told.id).revoked_at is not None
    assert client.get("/api/conversations", headers=key.headers).status_code == 401
    with pytest.raises(NotFound):
        keys.revoke(user_id=new_id(), key_id=told.id)


def test_all_somebody_has_in_one_file_without_secrets(engine: Engine, somebody: Account, tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    exported = export_account(user_id=somebody.id, path=path)
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        held = {name: archive.read(name) for name in archive.namelist()}
    assert orjson.loads(held["account.json"])["email"] == somebody.email
    assert orjson.loads(held["manifest.json"])["rows"] == exported.rows
    for conversation in conversations_of(engine, somebody):
        document = orjson.loads(held[f"conversations/{conversation}.json"])
        assert [message["role"] for message in document["messages"]] == ["user", "assistant"]
    for name, content in held.items():
        if name.endswith(".jsonl"):
            for line in content.splitlines():
                assert SECRETS.isdisjoint(orjson.loads(line)), name
    assert exported.rows["sessions"] >= 1
    assert exported.rows["turns"] == exported.conversations == 2
    with pytest.raises(InvalidInput):
        export_account(user_id=somebody.id, path=path)
    with pytest.raises(InvalidInput):
        export_account(user_id=somebody.id, path=tmp_path / "no such folder" / "all.zip")
    assert [each.name for each in tmp_path.iterdir()] == ["all.zip"]
    _, refused, done = acts(target=str(somebody.id), action="user.export")
    assert (done.result, done.details["reason"], done.details["conversations"]) == ("done", "they asked for it", 2)
    assert (refused.result, refused.details["conversations"]) == ("refused", 0)
    with pytest.raises(InvalidInput), opened_account(user_id=somebody.id, by=ME, reason="because"):
        pass


def test_rows_of_more_than_a_page_are_all_there(
    engine: Engine, user: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.account_exports._PAGE", 3)
    for number in range(7):
        run(
            engine,
            "INSERT INTO projects (user_id, id, name) VALUES (:u, :i, :n)",
            u=user.id,
            i=new_id(),
            n=f"project {number}",
        )
    exported = export_account(user_id=user.id, path=tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = [orjson.loads(line)["name"] for line in archive.read("projects.jsonl").splitlines()]
    assert names == [f"project {number}" for number in range(7)]
    assert exported.rows["projects"] == 7


def test_erased_is_gone_everywhere_with_a_receipt(engine: Engine, client: FlaskClient, somebody: Account) -> None:
    plan = plan_erasure(user_id=somebody.id)
    assert plan.rows["conversations"] == 2
    assert plan.rows["messages"] == 4
    receipt = erase(user_id=somebody.id, by=ME, reason="asked for it")
    assert {table: count for table, count in receipt.rows.items() if table != "turn_events"} == {
        table: count for table, count in plan.rows.items() if table != "turn_events"
    }
    with engine.connect() as connection:
        assert count_rows(connection, somebody.id) == {}
    assert client.get("/api/auth/me", headers=somebody.headers).status_code == 401
    kept = next(each for each in erasures(limit=100) if each.account_id == somebody.id)
    assert (kept.id, kept.reason, kept.rows) == (receipt.id, "asked for it", dict(receipt.rows))
    assert somebody.email not in str(kept)
    with pytest.raises(NotFound):
        erase(user_id=somebody.id, by=ME, reason="once more")


def test_every_owned_table_is_counted(engine: Engine) -> None:
    """Against PostgreSQL's own catalogue."""
    rows = run(
        engine,
        "SELECT table_name FROM information_schema.columns WHERE column_name = :owner AND table_schema = 'public'",
        owner=OWNER,
    )
    assert {str(table.name) for table in owned_tables()} == {row.table_name for row in rows}


def test_a_legal_hold_refuses_and_names_what_it_holds(engine: Engine, client: FlaskClient, somebody: Account) -> None:
    held = conversations_of(engine, somebody)[0]
    run(engine, "UPDATE conversations SET legal_hold = true WHERE id = :c", c=held)
    with pytest.raises(AccountHeld, match=str(held)):
        erase(user_id=somebody.id, by=ME, reason="asked for it")
    assert client.get("/api/auth/me", headers=somebody.headers).status_code == 200
    assert len(conversations_of(engine, somebody)) == 2
    assert not [each for each in erasures(limit=100) if each.account_id == somebody.id]


def test_a_hold_that_comes_in_between_keeps_what_it_holds(
    engine: Engine, somebody: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = conversations_of(engine, somebody)[1]

    def hold(user_id: UUID) -> None:
        run(engine, "UPDATE conversations SET legal_hold = true WHERE id = :c", c=held)
        run(
            engine,
            "INSERT INTO legal_holds (user_id, id, conversation_id, reason, placed_by) VALUES (:u, :i, :c, 'x', 'y')",
            u=user_id,
            i=new_id(),
            c=held,
        )

    monkeypatch.setattr("ops.accounts.erasure._await_turns", hold)  # the moment at which others may come in between
    with pytest.raises(AccountHeld, match=str(held)):
        erase(user_id=somebody.id, by=ME, reason="asked for it")
    assert conversations_of(engine, somebody) == [held]
    [(count,)] = run(engine, "SELECT count(*) FROM messages WHERE conversation_id = :c", c=held)
    assert count == 2


@pytest.mark.parametrize("reason", ["", "  ", "x"])
def test_an_erasure_wants_a_reason(somebody: Account, reason: str) -> None:
    with pytest.raises(InvalidInput):
        erase(user_id=somebody.id, by=ME, reason=reason)
    assert people.find(user_id=somebody.id).status == "active"


def test_somebody_who_comes_back_is_noticed(engine: Engine, somebody: Account) -> None:
    erase(user_id=somebody.id, by=ME, reason="asked for it")
    [before] = examine(checks=select(["erasures.nobody_came_back"])).answers
    assert before.level is Level.OK, before
    run(
        engine,
        "INSERT INTO users (id, email, name, password_hash) VALUES (:u, :e, 'again', 'x')",
        u=somebody.id,
        e=somebody.email,
    )
    [answer] = examine(checks=select(["erasures.nobody_came_back"])).answers
    assert answer.level is Level.CRITICAL
    assert str(somebody.id) in str(answer.findings)
    erase(user_id=somebody.id, by=ME, reason="came back")
    assert examine(checks=select(["erasures.nobody_came_back"])).level is Level.OK


def test_reading_what_is_somebody_elses_is_written_down_with_the_reason(engine: Engine, somebody: Account) -> None:
    conversation = conversations_of(engine, somebody)[0]
    known = {"user_id": somebody.id, "conversation_id": conversation, "by": ME}
    with pytest.raises(InvalidInput), opened_conversation(**known, reason="because"):
        pass
    with opened_conversation(**known, reason="court order 17/2026") as pieces:
        assert b"hello" in b"".join(pieces)
    [act] = acts(target=str(conversation))
    assert (act.action, act.actor, act.result) == ("conversation.read", ME.name, "done")
    assert act.details["reason"] == "court order 17/2026"


def test_what_goes_wrong_is_written_down_too(make_user: Callable[..., Account]) -> None:
    from ops.audit import audited

    target = str(new_id())
    with pytest.raises(NotFound), audited(by=ME, action="user.disable", on=target):
        people.disable(user_id=UUID(target))
    with pytest.raises(ZeroDivisionError), audited(by=ME, action="user.disable", on=target):
        _ = 1 / 0
    failed, refused = acts(target=target)
    assert (refused.result, refused.reason) == ("refused", "There is no such account.")
    assert (failed.result, failed.reason) == ("failed", "ZeroDivisionError: division by zero")
