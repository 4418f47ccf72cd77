"""Rows, locks and threads for the tests of lists, conversations, projects and prompts."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from tests.factories import LoggedInUser


def walk(client: FlaskClient, account: LoggedInUser, url: str, **query: Any) -> list[dict[str, Any]]:
    """Return all items of a list, page by page. No list here has more than 100 pages."""
    items: list[dict[str, Any]] = []
    for _ in range(100):
        response = client.get(url, query_string=query, headers=account.headers)
        assert response.status_code == 200, response.json
        items += response.json["items"]
        if response.json["next_cursor"] is None:
            return items
        assert len(response.json["items"]) == query["limit"]
        query["cursor"] = response.json["next_cursor"]
    raise AssertionError("the list does not end")


def add_conversations(engine: Engine, account: LoggedInUser, count: int, **columns: str) -> None:
    """Insert `count` conversations titled 1, 2, ...; `columns` are SQL expressions of the number `n`."""
    values = {"title": "n::text", "created_at": "'2026-01-01'", "updated_at": "'2026-01-02'", **columns}
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO conversations (user_id, id, {', '.join(values)})"
                f" SELECT :user_id, gen_random_uuid(), {', '.join(values.values())}"
                " FROM generate_series(1, :count) AS n"
            ),
            {"user_id": account.id, "count": count},
        )


def add_messages(engine: Engine, account: LoggedInUser, conversation_id: UUID, count: int) -> None:
    """Insert `count` messages, alternately of user and assistant, all with the same time."""
    parameters = {"user_id": account.id, "conversation_id": conversation_id, "count": count}
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO messages (user_id, conversation_id, position, role, content)"
                " SELECT :user_id, :conversation_id, n, CASE WHEN n % 2 = 1 THEN 'user' ELSE 'assistant' END, n::text"
                " FROM generate_series(1, :count) AS n"
            ),
            parameters,
        )
        connection.execute(
            text(
                "UPDATE conversations SET message_count = :count, next_position = :count + 1"
                " WHERE user_id = :user_id AND id = :conversation_id"
            ),
            parameters,
        )


def begin_turn(engine: Engine, account: LoggedInUser, conversation_id: UUID, *, silent_for: int = 0) -> UUID:
    """Insert a running turn with its lease, and return its attempt. Its heartbeat is `silent_for` seconds old."""
    parameters = {
        "user_id": account.id,
        "conversation_id": conversation_id,
        "turn_id": new_id(),
        "attempt": new_id(),
        "silent_for": silent_for,
    }
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, heartbeat_at,"
                " started_at) VALUES (:user_id, :turn_id, :conversation_id, :attempt, 'running', 1, 'demo',"
                " now() - make_interval(secs => :silent_for), now() - make_interval(secs => :silent_for))"
            ),
            parameters,
        )
        connection.execute(
            text(
                "UPDATE conversations SET running_attempt = :attempt WHERE user_id = :user_id AND id = :conversation_id"
            ),
            parameters,
        )
    return UUID(str(parameters["attempt"]))


def owned_rows(engine: Engine, account: LoggedInUser) -> dict[str, list[Any]]:
    """Return all rows of the user in the tables of these tests, for comparison."""
    tables = ("projects", "prompts", "prompt_versions", "tasks", "conversations", "messages", "turns")
    with engine.connect() as connection:
        return {
            table: connection.execute(
                text(f"SELECT to_jsonb({table}) FROM {table} WHERE user_id = :user_id ORDER BY 1"),
                {"user_id": account.id},
            ).all()
            for table in tables
        }


@contextmanager
def row_held(engine: Engine, table: str, account: LoggedInUser, row_id: UUID) -> Iterator[Callable[..., None]]:
    """Hold the lock of a row, and yield a function that releases it once `waiting` statements wait for the lock.

    The function can run a statement `then` in the holder's transaction before its commit.
    """
    with engine.connect() as holder:
        pid = holder.execute(text("SELECT pg_backend_pid()")).scalar_one()
        key = {"user_id": account.id, "id": row_id}
        holder.execute(text(f"SELECT FROM {table} WHERE user_id = :user_id AND id = :id FOR UPDATE"), key)

        def release(waiting: int, then: str | None = None, **parameters: Any) -> None:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
                for _ in range(1_000):
                    # The second in the queue waits for the first, which waits for the holder.
                    blocked = watcher.execute(
                        text(
                            "WITH RECURSIVE blocked AS ("
                            " SELECT pid FROM pg_stat_activity WHERE :pid = ANY (pg_blocking_pids(pid))"
                            " UNION SELECT a.pid FROM pg_stat_activity a, blocked b"
                            " WHERE b.pid = ANY (pg_blocking_pids(a.pid)))"
                            " SELECT count(*) FROM blocked"
                        ),
                        {"pid": pid},
                    ).scalar_one()
                    if blocked >= waiting:
                        break
                    time.sleep(0.01)  # PostgreSQL has no event for a waiting lock
                else:
                    raise AssertionError(f"{blocked} of {waiting} statements wait for the lock")
            if then is not None:
                holder.execute(text(then), {**key, **parameters})
            holder.commit()

        yield release
        holder.rollback()


def start_all(*calls: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    """Start each call in its own thread; the results are in the order in which the calls end."""
    results: list[Any] = []
    threads = [threading.Thread(target=lambda call=call: results.append(call()), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads, results


def join_all(threads: list[threading.Thread]) -> None:
    """Join all threads."""
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
