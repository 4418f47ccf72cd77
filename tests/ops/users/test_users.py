"""User administration: creation, disabling, roles, export and erasure."""

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

from app.enums import UserRole
from app.errors import EmailTaken, InvalidInput, NotFound, UserHeld
from app.ids import new_id
from app.repositories.owned import OWNER, count_rows, owned_tables
from app.services.user_exports import SECRETS
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.levels import Level
from ops.runs.actors import Actor
from ops.runs.audit import audit_entries, audited
from ops.users import keys, users
from ops.users.break_glass import audited_conversation, audited_user_data
from ops.users.erasure import erase, plan_erasure
from ops.users.export import UserExportReport, write_user_export
from ops.users.receipts import list_receipts
from tests.api.keys import make_key
from tests.factories import PASSWORD, LoggedInUser

ME = Actor(kind="command", name="tester@here")


@pytest.fixture(autouse=True)
def _context(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield


@pytest.fixture
def owner(client: FlaskClient, user: LoggedInUser) -> LoggedInUser:
    """Return a user with a project, two conversations and an API key."""
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


def export_user(*, user_id: UUID, path: Path) -> UserExportReport:
    with audited_user_data(user_id=user_id, by=ME, reason="they asked for it") as opened:
        return write_user_export(opened, path=path)


def conversations_of(engine: Engine, account: LoggedInUser) -> list[UUID]:
    return [row.id for row in run(engine, "SELECT id FROM conversations WHERE user_id = :u ORDER BY id", u=account.id)]


def test_created_user_can_log_in(client: FlaskClient) -> None:
    email = f"{new_id().hex}@example.org"
    made = users.create(email=email, name="Ada", password=PASSWORD, role=UserRole.OPERATOR)
    assert users.find_id(email.upper()) == users.find_id(str(made.id)) == made.id
    answer = client.post("/api/auth/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200
    with pytest.raises(EmailTaken):
        users.create(email=email.upper(), name="Ada", password=PASSWORD)
    with pytest.raises(InvalidInput):
        users.create(email=f"{new_id().hex}@example.org", name="Ada", password="short")
    with pytest.raises(NotFound):
        users.find_id("unknown@example.org")
    with pytest.raises(NotFound):
        users.find_id(str(new_id()))


def test_disabled_user_is_rejected_at_once_and_must_log_in_after_enable(
    client: FlaskClient, owner: LoggedInUser
) -> None:
    users.disable(user_id=owner.id)
    assert client.get("/api/auth/me", headers=owner.headers).status_code == 401
    refused = client.post("/api/auth/login", json={"email": owner.email, "password": PASSWORD})
    assert refused.status_code == 403
    users.enable(user_id=owner.id)
    assert client.get("/api/auth/me", headers=owner.headers).status_code == 401
    assert client.post("/api/auth/login", json={"email": owner.email, "password": PASSWORD}).status_code == 200


def test_role_takes_effect_with_the_next_request(client: FlaskClient, user: LoggedInUser) -> None:
    assert users.set_role(user_id=user.id, role=UserRole.ADMIN).role == "admin"
    assert client.get("/api/auth/me", headers=user.headers).get_json()["role"] == "admin"


def test_end_sessions_keeps_api_keys(flask_app: Flask, client: FlaskClient, user: LoggedInUser) -> None:
    key = make_key(flask_app, user)
    users.end_sessions(user_id=user.id)
    assert client.get("/api/auth/me", headers=user.headers).status_code == 401
    assert client.get("/api/conversations", headers=key.headers).status_code == 200
    [key_summary] = keys.list_keys(user_id=user.id)
    assert keys.revoke_key(user_id=user.id, key_id=key_summary.id).revoked_at is not None
    assert client.get("/api/conversations", headers=key.headers).status_code == 401
    with pytest.raises(NotFound):
        keys.revoke_key(user_id=new_id(), key_id=key_summary.id)


def test_export_contains_all_data_without_secrets(engine: Engine, owner: LoggedInUser, tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    exported = export_user(user_id=owner.id, path=path)
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        held = {name: archive.read(name) for name in archive.namelist()}
    assert orjson.loads(held["account.json"])["email"] == owner.email
    assert orjson.loads(held["manifest.json"])["rows"] == exported.rows
    for conversation in conversations_of(engine, owner):
        document = orjson.loads(held[f"conversations/{conversation}.json"])
        assert [message["role"] for message in document["messages"]] == ["user", "assistant"]
    for name, content in held.items():
        if name.endswith(".jsonl"):
            for line in content.splitlines():
                assert SECRETS.isdisjoint(orjson.loads(line)), name
    assert exported.rows["sessions"] >= 1
    assert exported.rows["turns"] == exported.conversations == 2
    with pytest.raises(InvalidInput):
        export_user(user_id=owner.id, path=path)
    with pytest.raises(InvalidInput):
        export_user(user_id=owner.id, path=tmp_path / "no such folder" / "all.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["all.zip"]
    _, refused, done = audit_entries(target=str(owner.id), action="user.export")
    assert (done.result, done.details["reason"], done.details["conversations"]) == ("done", "they asked for it", 2)
    assert (refused.result, refused.details["conversations"]) == ("refused", 0)
    with pytest.raises(InvalidInput), audited_user_data(user_id=owner.id, by=ME, reason="because"):
        pass


def test_export_reads_all_pages_of_a_table(
    engine: Engine, user: LoggedInUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.user_exports._PAGE", 3)
    for number in range(7):
        run(
            engine,
            "INSERT INTO projects (user_id, id, name) VALUES (:u, :i, :n)",
            u=user.id,
            i=new_id(),
            n=f"project {number}",
        )
    exported = export_user(user_id=user.id, path=tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = [orjson.loads(line)["name"] for line in archive.read("projects.jsonl").splitlines()]
    assert names == [f"project {number}" for number in range(7)]
    assert exported.rows["projects"] == 7


def test_export_contains_tasks_without_search_terms(client: FlaskClient, user: LoggedInUser, tmp_path: Path) -> None:
    made = client.post("/api/tasks", json={"title": "Buy milk", "description": "Two"}, headers=user.headers)
    assert made.json is not None
    export_user(user_id=user.id, path=tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        [line] = archive.read("tasks.jsonl").splitlines()
    row = orjson.loads(line)
    assert {name: row[name] for name in ("id", "title", "description", "completed")} == {
        name: made.json[name] for name in ("id", "title", "description", "completed")
    }
    assert not [name for name in row if name.startswith("search")]


def test_erase_deletes_all_rows_and_writes_a_receipt(engine: Engine, client: FlaskClient, owner: LoggedInUser) -> None:
    plan = plan_erasure(user_id=owner.id)
    assert plan.rows["conversations"] == 2
    assert plan.rows["messages"] == 4
    receipt = erase(user_id=owner.id, by=ME, reason="asked for it")
    assert {table: count for table, count in receipt.rows.items() if table != "turn_events"} == {
        table: count for table, count in plan.rows.items() if table != "turn_events"
    }
    with engine.connect() as connection:
        assert count_rows(connection, owner.id) == {}
    assert client.get("/api/auth/me", headers=owner.headers).status_code == 401
    kept = next(receipt for receipt in list_receipts(limit=100) if receipt.user_id == owner.id)
    assert (kept.id, kept.reason, kept.rows) == (receipt.id, "asked for it", dict(receipt.rows))
    assert owner.email not in str(kept)
    with pytest.raises(NotFound):
        erase(user_id=owner.id, by=ME, reason="asked once more")


def test_every_owned_table_is_counted(engine: Engine) -> None:
    """Compares with the columns in the database."""
    rows = run(
        engine,
        "SELECT table_name FROM information_schema.columns WHERE column_name = :owner AND table_schema = 'public'",
        owner=OWNER,
    )
    assert {str(table.name) for table in owned_tables()} == {row.table_name for row in rows}


def test_erase_with_a_hold_is_refused_and_names_it(engine: Engine, client: FlaskClient, owner: LoggedInUser) -> None:
    held = conversations_of(engine, owner)[0]
    run(engine, "UPDATE conversations SET legal_hold = true WHERE id = :c", c=held)
    with pytest.raises(UserHeld, match=str(held)):
        erase(user_id=owner.id, by=ME, reason="asked for it")
    assert client.get("/api/auth/me", headers=owner.headers).status_code == 200
    assert len(conversations_of(engine, owner)) == 2
    assert not [receipt for receipt in list_receipts(limit=100) if receipt.user_id == owner.id]


def test_hold_placed_during_an_erasure_keeps_its_conversation(
    engine: Engine, owner: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = conversations_of(engine, owner)[1]

    def hold(user_id: UUID) -> None:
        run(engine, "UPDATE conversations SET legal_hold = true WHERE id = :c", c=held)
        run(
            engine,
            "INSERT INTO legal_holds (user_id, id, conversation_id, reason, placed_by) VALUES (:u, :i, :c, 'x', 'y')",
            u=user_id,
            i=new_id(),
            c=held,
        )

    monkeypatch.setattr("ops.users.erasure._await_turns", hold)  # called before the first deletion
    with pytest.raises(UserHeld, match=str(held)):
        erase(user_id=owner.id, by=ME, reason="asked for it")
    assert conversations_of(engine, owner) == [held]
    [(count,)] = run(engine, "SELECT count(*) FROM messages WHERE conversation_id = :c", c=held)
    assert count == 2


@pytest.mark.parametrize("reason", ["", "  ", "x"])
def test_erase_without_a_reason_is_refused(owner: LoggedInUser, reason: str) -> None:
    with pytest.raises(InvalidInput):
        erase(user_id=owner.id, by=ME, reason=reason)
    assert users.get(user_id=owner.id).status == "active"


def test_reappeared_user_is_critical_until_erased_again(engine: Engine, owner: LoggedInUser) -> None:
    erase(user_id=owner.id, by=ME, reason="asked for it")
    [before] = run_doctor(checks=select_checks(["erasures.reappeared"])).results
    assert before.level is Level.OK, before
    run(
        engine,
        "INSERT INTO users (id, email, name, password_hash) VALUES (:u, :e, 'again', 'x')",
        u=owner.id,
        e=owner.email,
    )
    [answer] = run_doctor(checks=select_checks(["erasures.reappeared"])).results
    assert answer.level is Level.CRITICAL
    assert str(owner.id) in str(answer.findings)
    erase(user_id=owner.id, by=ME, reason="came back again")
    assert run_doctor(checks=select_checks(["erasures.reappeared"])).level is Level.OK


def test_break_glass_read_is_audited_with_its_reason(engine: Engine, owner: LoggedInUser) -> None:
    conversation = conversations_of(engine, owner)[0]
    known = {"user_id": owner.id, "conversation_id": conversation, "by": ME}
    with pytest.raises(InvalidInput), audited_conversation(**known, reason="because"):
        pass
    with audited_conversation(**known, reason="court order 17/2026") as pieces:
        assert b"hello" in b"".join(pieces)
    [act] = audit_entries(target=str(conversation))
    assert (act.action, act.actor, act.result) == ("conversation.read", ME.name, "done")
    assert act.details["reason"] == "court order 17/2026"


def test_failed_and_refused_actions_are_audited(make_user: Callable[..., LoggedInUser]) -> None:
    target = str(new_id())
    with pytest.raises(NotFound), audited(actor=ME, action="user.disable", target=target):
        users.disable(user_id=UUID(target))
    with pytest.raises(ZeroDivisionError), audited(actor=ME, action="user.disable", target=target):
        _ = 1 / 0
    failed, refused = audit_entries(target=target)
    assert (refused.result, refused.reason) == ("refused", "There is no such account.")
    assert (failed.result, failed.reason) == ("failed", "ZeroDivisionError: division by zero")
