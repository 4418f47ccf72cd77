"""Seeded data: its shape, its use and its deletion."""

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from ops.seed import SEEDED, delete_seeds, seed


@pytest.fixture(autouse=True)
def _context(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield
        delete_seeds()


def one(engine: Engine, statement: str) -> tuple[int, ...]:
    with engine.connect() as connection:
        return tuple(connection.execute(text(statement), {"seeded": f"%{SEEDED}"}).one())


def test_seed_has_the_shape_that_turns_produce(engine: Engine) -> None:
    made = seed(users=3, conversations=2, messages=5, days=100)
    assert (made.users, made.conversations, made.messages) == (3, 6, 30)
    ours = "(SELECT id FROM users WHERE email LIKE :seeded)"
    counted = one(
        engine,
        f"""
        SELECT count(*), count(*) FILTER (WHERE c.message_count = m.messages AND c.next_position = m.last + 1),
               count(*) FILTER (WHERE c.updated_at < now() - interval '1 hour'), min(m.pairs), max(m.pairs)
          FROM conversations c JOIN (
               SELECT user_id, conversation_id, count(*) AS messages, max(position) AS last,
                      count(*) FILTER (WHERE (role = 'user') = (position % 2 = 1)) AS pairs
                 FROM messages GROUP BY 1, 2) m ON m.user_id = c.user_id AND m.conversation_id = c.id
         WHERE c.user_id IN {ours}""",
    )
    assert counted == (6, 6, 6, 5, 5)
    turns = f"SELECT count(*), count(*) FILTER (WHERE status = 'failed') FROM turns WHERE user_id IN {ours}"
    assert one(engine, turns) == (18, 6)


def test_seeded_user_can_log_in_and_chat(flask_app: Flask) -> None:
    made = seed(users=1, conversations=1, messages=4)
    client = flask_app.test_client()
    answer = client.post("/api/auth/login", json={"email": made.first_email, "password": made.password})
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json['access_token']}"} if answer.json else {}
    [conversation] = client.get("/api/conversations", headers=headers).json["items"]  # type: ignore[index]
    response = client.post("/api/chat", json={"message": "on", "conversation_id": conversation["id"]}, headers=headers)
    assert response.status_code == 200, response.text
    assert client.get("/api/conversations", headers=headers).json["items"][0]["message_count"] == 6  # type: ignore[index]


def test_delete_seeds_deletes_only_seeded_users(engine: Engine, flask_app: Flask) -> None:
    before = one(engine, "SELECT count(*) FROM users WHERE email NOT LIKE :seeded")
    seed(users=7, conversations=1, messages=2)
    assert delete_seeds(dry_run=True).users == 7
    assert delete_seeds().users == 7
    assert one(engine, "SELECT count(*) FROM users WHERE email LIKE :seeded") == (0,)
    assert one(engine, "SELECT count(*) FROM users WHERE email NOT LIKE :seeded") == before
