"""Legal holds."""

import pytest
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from app.errors import InvalidInput, NotFound
from app.ids import new_id
from ops.archive.holds import hold_conversation, hold_user, lift_hold, list_holds
from tests.bundling import archive_all, make_idle, numbered_messages, storage_state
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute


def test_held_conversation_is_neither_bundled_nor_deleted(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    url, client = f"/api/conversations/{conversation}", flask_app.test_client()
    with flask_app.app_context():
        held = hold_conversation(conversation_id=conversation, reason=" case 4711/26 ", by="ada@desk")
        [hold] = list_holds()
    assert (hold.id, hold.reason, hold.placed_by) == (held.holds[0], "case 4711/26", "ada@desk")
    assert (hold.user_id, hold.conversation_id) == (user.id, conversation)
    archive_all(flask_app)
    assert storage_state(engine, conversation) == ("active", "live", 3, 0)
    refused = client.delete(url, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")  # type: ignore[index]
    assert client.get(url, headers=user.headers).json["legal_hold"] is True  # type: ignore[index]
    # The foreign key protects it from deletion by SQL, too.
    for erase in ("DELETE FROM users WHERE id = :u", "DELETE FROM conversations WHERE user_id = :u"):
        with pytest.raises(IntegrityError, match="fk_legal_holds_conversations"):
            execute(erase, u=user.id)
    with flask_app.app_context():
        lifted = lift_hold(hold_id=hold.id)
        assert (lifted.conversation_id, lifted.still_held, list_holds()) == (conversation, False, [])
    assert archive_all(flask_app).conversations == 1
    execute("DELETE FROM users WHERE id = :u", u=user.id)
    assert execute("SELECT FROM conversation_archives") == []


def test_conversation_is_held_until_the_last_hold_is_lifted(
    flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    with flask_app.app_context():
        first, second = (
            hold_conversation(conversation_id=conversation, reason=reason, by="x")
            for reason in ("the first case", "the second case")
        )
        assert lift_hold(hold_id=first.holds[0]).still_held
        assert archive_all(flask_app).conversations == 0
        assert not lift_hold(hold_id=second.holds[0]).still_held
        with pytest.raises(NotFound):
            lift_hold(hold_id=first.holds[0])
        assert archive_all(flask_app).conversations == 1


def test_bundled_conversation_can_be_held(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    archive_all(flask_app)
    with flask_app.app_context():
        hold_conversation(conversation_id=conversation, reason="case 4711/26", by="x")
    client = flask_app.test_client()
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 409
    assert client.get(f"/api/conversations/{conversation}/messages", headers=user.headers).status_code == 200
    assert storage_state(engine, conversation) == ("archived", "bundled", 0, 1)


def test_hold_user_holds_all_current_conversations(
    flask_app: Flask, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    mine = {make_idle(engine, user, numbered_messages(1)) for _ in range(3)}
    make_idle(engine, other_user, numbered_messages(1))
    with flask_app.app_context():
        assert hold_user(user_id=user.id, reason="case 4711/26", by="x").held == 3
        assert {hold.conversation_id for hold in list_holds(user_id=user.id)} == mine
        assert {hold.conversation_id for hold in list_holds(limit=100)} == mine
        first = list_holds(limit=2)
        rest = list_holds(limit=2, after=(first[-1].user_id, first[-1].id))
        assert {hold.conversation_id for hold in (*first, *rest)} == mine
    assert archive_all(flask_app).conversations == 1


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "a\x00b"])
def test_hold_with_invalid_reason_is_refused(flask_app: Flask, engine: Engine, user: LoggedInUser, reason: str) -> None:
    conversation = make_idle(engine, user, numbered_messages(1))
    with flask_app.app_context():
        with pytest.raises(InvalidInput):
            hold_conversation(conversation_id=conversation, reason=reason, by="x")
        assert list_holds() == []


def test_hold_of_unknown_conversation_or_user_is_refused(flask_app: Flask, user: LoggedInUser) -> None:
    with flask_app.app_context():
        with pytest.raises(NotFound):
            hold_conversation(conversation_id=new_id(), reason="case 4711/26", by="x")
        with pytest.raises(NotFound):
            hold_user(user_id=user.id, reason="case 4711/26", by="x")
