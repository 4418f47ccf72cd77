"""The purge of recorded calls of tools."""

from flask import Flask
from sqlalchemy import Engine, text

from ops.maintenance.tool_calls import purge_tool_calls
from tests.factories import LoggedInUser, make_conversation


def _insert(engine: Engine, account: LoggedInUser, days: int, count: int) -> None:
    """Insert a completed turn with that many calls of that age."""
    with engine.begin() as connection:
        connection.execute(
            text("""
            WITH t AS (
                INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, heartbeat_at,
                                   started_at, finished_at)
                VALUES (:u, gen_random_uuid(), :c, gen_random_uuid(), 'completed', 1, 'demo', now(), now(), now())
                RETURNING user_id, id, attempt)
            INSERT INTO tool_calls (user_id, turn_id, key, tool, attempt, state, created_at)
            SELECT t.user_id, t.id, number, 'note', t.attempt, 'begun', now() - make_interval(days => :days)
              FROM t, generate_series(1, :count) AS number"""),
            {"u": account.id, "c": make_conversation(engine, account), "days": days, "count": count},
        )


def test_purge_deletes_only_old_calls_in_batches(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    _insert(engine, user, days=31, count=25)
    _insert(engine, user, days=29, count=3)
    with flask_app.app_context():
        assert purge_tool_calls(keep_days=30, dry_run=True).deleted >= 25
        assert purge_tool_calls(keep_days=30, batch=10).deleted >= 25
    with engine.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM tool_calls WHERE user_id = :u"), {"u": user.id})
        assert left.scalar_one() == 3
