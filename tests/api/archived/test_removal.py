"""Deletion of conversations that are too long for one statement."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.services import conversation_deletion
from tests.bundling import make_idle, numbered_messages
from tests.factories import LoggedInUser

MESSAGES = 120


@pytest.fixture
def impatient_app(settings: Settings) -> Iterator[Flask]:
    """Yield an application with a statement timeout of half a second."""
    database = settings.database.model_copy(update={"statement_timeout_ms": 500})
    flask_app = create_app(replace(settings, database=database))
    yield flask_app
    with flask_app.app_context():
        db.engine.dispose()


@pytest.fixture
def slow_deletes(engine: Engine) -> Iterator[None]:
    """Make the deletion of each message take 10 ms."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER slowly BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION slowly()")
        )
    yield
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER slowly ON messages"))
        connection.execute(text("DROP FUNCTION slowly()"))


def remaining_rows(engine: Engine, conversation: UUID) -> tuple[int, ...]:
    with engine.connect() as connection:
        return tuple(
            connection.execute(
                text(
                    "SELECT (SELECT count(*) FROM conversations WHERE id = :c),"
                    " (SELECT count(*) FROM messages WHERE conversation_id = :c)"
                ),
                {"c": conversation},
            ).one()
        )


@pytest.mark.usefixtures("slow_deletes")
def test_long_conversation_is_deleted_in_batches(
    impatient_app: Flask, engine: Engine, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = make_idle(engine, user, numbered_messages(MESSAGES))
    monkeypatch.setattr(conversation_deletion, "STEP", 20)
    answer = impatient_app.test_client().delete(f"/api/conversations/{conversation}", headers=user.headers)
    assert answer.status_code == 204, answer.text
    assert remaining_rows(engine, conversation) == (0, 0)


@pytest.mark.usefixtures("slow_deletes")
def test_batch_that_times_out_deletes_nothing(impatient_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_idle(engine, user, numbered_messages(MESSAGES))
    answer = impatient_app.test_client().delete(f"/api/conversations/{conversation}", headers=user.headers)
    assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")  # type: ignore[index]
    assert remaining_rows(engine, conversation) == (1, MESSAGES)
