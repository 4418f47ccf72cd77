"""The purge of stored stream events."""

from datetime import timedelta
from uuid import UUID

from flask import Flask
from sqlalchemy import Engine, text

from ops.maintenance.turn_events import purge_turn_events
from tests.factories import LoggedInUser, make_conversation


def count_events(engine: Engine, account: LoggedInUser) -> int:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM turn_events WHERE user_id = :u"), {"u": account.id})
        return int(found.scalar_one())


def insert_events(engine: Engine, account: LoggedInUser, conversation: UUID, hours_ago: float, batches: int) -> None:
    """Insert a completed turn with that many event batches of that age."""
    with engine.begin() as connection:
        connection.execute(
            text("""
            WITH t AS (
                INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, heartbeat_at,
                                   started_at, finished_at)
                VALUES (:u, gen_random_uuid(), :c, gen_random_uuid(), 'completed', 1, 'demo', now(), now(), now())
                RETURNING user_id, id, attempt)
            INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events, created_at)
            SELECT t.user_id, t.id, number, t.attempt, '[]', now() - make_interval(secs => :age)
              FROM t, generate_series(1, :batches) AS number"""),
            {"u": account.id, "c": conversation, "age": hours_ago * 3600, "batches": batches},
        )


def test_purge_deletes_only_old_events_in_batches(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_conversation(engine, user)
    insert_events(engine, user, conversation, hours_ago=7, batches=25)
    insert_events(engine, user, conversation, hours_ago=5, batches=3)
    with flask_app.app_context():
        report = purge_turn_events(keep=timedelta(hours=6), dry_run=True)
        assert report.deleted >= 25
        assert count_events(engine, user) == 28
        assert purge_turn_events(keep=timedelta(hours=6), batch=10).deleted >= 25
    assert count_events(engine, user) == 3
