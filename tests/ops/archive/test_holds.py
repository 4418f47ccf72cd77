"""Legal holds: nothing that is held goes away, whoever wants it to, until the last hold is lifted."""

import pytest
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from app.errors import InvalidInput, NotFound
from app.models.columns import new_id
from ops.archive.holds import hold_conversation, hold_user, holds, lift
from tests.archived import archive_all, make_idle, place, plain
from tests.factories import Account
from tests.ops.archive.conftest import Execute


def test_a_held_conversation_is_neither_archived_nor_deleted(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    conversation = make_idle(engine, user, plain(3))
    url, client = f"/api/conversations/{conversation}", flask_app.test_client()
    with flask_app.app_context():
        held = hold_conversation(conversation_id=conversation, reason=" case 4711 ", by="ada@desk")
        [hold] = holds()
    assert (hold.id, hold.reason, hold.placed_by) == (held.holds[0], "case 4711", "ada@desk")
    assert (hold.user_id, hold.conversation_id) == (user.id, conversation)
    archive_all(flask_app)
    assert place(engine, conversation) == ("active", "live", 3, 0)
    refused = client.delete(url, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")  # type: ignore[index]
    assert client.get(url, headers=user.headers).json["legal_hold"] is True  # type: ignore[index]
    # Not even erasing its owner by hand takes it along.
    for erase in ("DELETE FROM users WHERE id = :u", "DELETE FROM conversations WHERE user_id = :u"):
        with pytest.raises(IntegrityError, match="fk_legal_holds_conversations"):
            execute(erase, u=user.id)
    with flask_app.app_context():
        lifted = lift(hold_id=hold.id)
        assert (lifted.conversation_id, lifted.still_held, holds()) == (conversation, False, [])
    assert archive_all(flask_app).conversations == 1
    execute("DELETE FROM users WHERE id = :u", u=user.id)
    assert execute("SELECT FROM conversation_archives") == []


def test_it_is_held_until_the_last_hold_is_lifted(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(3))
    with flask_app.app_context():
        one, other = (hold_conversation(conversation_id=conversation, reason=each, by="x") for each in ("a", "b"))
        assert lift(hold_id=one.holds[0]).still_held
        assert archive_all(flask_app).conversations == 0
        assert not lift(hold_id=other.holds[0]).still_held
        with pytest.raises(NotFound):
            lift(hold_id=one.holds[0])
        assert archive_all(flask_app).conversations == 1


def test_what_is_bundled_can_be_held_and_then_not_be_deleted(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(3))
    archive_all(flask_app)
    with flask_app.app_context():
        hold_conversation(conversation_id=conversation, reason="case", by="x")
    client = flask_app.test_client()
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 409
    assert client.get(f"/api/conversations/{conversation}/messages", headers=user.headers).status_code == 200
    assert place(engine, conversation) == ("archived", "bundled", 0, 1)


def test_all_that_a_user_has(flask_app: Flask, engine: Engine, user: Account, other_user: Account) -> None:
    mine = {make_idle(engine, user, plain(1)) for _ in range(3)}
    make_idle(engine, other_user, plain(1))
    with flask_app.app_context():
        assert hold_user(user_id=user.id, reason="case", by="x").held == 3
        assert {each.conversation_id for each in holds(user_id=user.id)} == mine
        assert {each.conversation_id for each in holds(limit=100)} == mine
        first = holds(limit=2)
        rest = holds(limit=2, after=(first[-1].user_id, first[-1].id))
        assert {each.conversation_id for each in (*first, *rest)} == mine
    assert archive_all(flask_app).conversations == 1


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "a\x00b"])
def test_a_hold_needs_a_reason_that_can_be_kept(flask_app: Flask, engine: Engine, user: Account, reason: str) -> None:
    conversation = make_idle(engine, user, plain(1))
    with flask_app.app_context():
        with pytest.raises(InvalidInput):
            hold_conversation(conversation_id=conversation, reason=reason, by="x")
        assert holds() == []


def test_what_is_not_there_cannot_be_held(flask_app: Flask, user: Account) -> None:
    with flask_app.app_context():
        with pytest.raises(NotFound):
            hold_conversation(conversation_id=new_id(), reason="case", by="x")
        with pytest.raises(NotFound):
            hold_user(user_id=user.id, reason="case", by="x")
