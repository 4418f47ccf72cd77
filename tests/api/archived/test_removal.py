"""Conversations that are too long to be deleted by one statement."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.services import removal
from tests.archived import make_idle, plain
from tests.factories import Account

MESSAGES = 120


@pytest.fixture
def hasty(settings: Settings) -> Iterator[Flask]:
    """An application whose statements may take no longer than half a second."""
    database = settings.database.model_copy(update={"statement_timeout_ms": 500})
    flask_app = create_app(replace(settings, database=database))
    yield flask_app
    with flask_app.app_context():
        db.engine.dispose()


@pytest.fixture
def slow(engine: Engine) -> Iterator[None]:
    """A database that takes ten milliseconds to delete a message."""
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


def left(engine: Engine, conversation: UUID) -> tuple[int, ...]:
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


@pytest.mark.usefixtures("slow")
def test_it_goes_in_steps(hasty: Flask, engine: Engine, user: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = make_idle(engine, user, plain(MESSAGES))
    monkeypatch.setattr(removal, "STEP", 20)
    answer = hasty.test_client().delete(f"/api/conversations/{conversation}", headers=user.headers)
    assert answer.status_code == 204, answer.text
    assert left(engine, conversation) == (0, 0)


@pytest.mark.usefixtures("slow")
def test_where_even_a_step_takes_too_long_nothing_is_gone(hasty: Flask, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(MESSAGES))
    answer = hasty.test_client().delete(f"/api/conversations/{conversation}", headers=user.headers)
    assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")  # type: ignore[index]
    assert left(engine, conversation) == (1, MESSAGES)
