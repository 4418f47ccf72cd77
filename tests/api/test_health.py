"""Health checks."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from tests.database import fresh_database


@pytest.fixture
def serve(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Yield a function that creates an application with this database, broker and OPS_TOKEN."""
    made: list[Flask] = []

    def serve(url: str, broker: str | None = None, ops_token: str | None = None) -> Flask:
        changed = replace(
            settings,
            server=settings.server.model_copy(update={"ops_token": SecretStr(ops_token) if ops_token else None}),
            database=settings.database.model_copy(update={"url": url}),
            jobs=settings.jobs.model_copy(update={"broker_url": SecretStr(broker) if broker else None}),
        )
        made.append(create_app(changed))
        return made[-1]

    yield serve
    for flask_app in made:
        with flask_app.app_context():
            db.engine.dispose()


@pytest.fixture
def empty(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_health") as url:
        yield url


def revision(url: str, number: str) -> None:
    engine: Engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS alembic_version (version_num varchar(32) PRIMARY KEY)"))
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:number)"), {"number": number})
    engine.dispose()


def test_health_is_200_with_current_database(flask_app: Flask) -> None:
    response = flask_app.test_client().get("/health")
    assert (response.status_code, response.get_json()["status"]) == (200, "ok")


def test_health_distinguishes_empty_older_and_newer_database(serve: Callable[..., Flask], empty: str) -> None:
    client = serve(empty).test_client()
    responses = [client.get("/health")]
    for number in ("0001", "9999"):
        revision(empty, number)
        responses.append(client.get("/health"))
    assert [response.status_code for response in responses] == [503] * 3
    details = [response.get_json()["detail"] for response in responses]
    assert "is empty; run `flask db upgrade`" in details[0]
    assert "at migration 0001" in details[1]
    assert "run `flask db upgrade`" in details[1]
    assert "older than its database" in details[2]


def test_health_of_unreachable_database_hides_address(serve: Callable[..., Flask]) -> None:
    client = serve("postgresql+psycopg2://user:s3cret@127.0.0.1:1/none").test_client()
    response = client.get("/health")
    assert response.status_code == 503
    assert "does not answer" in response.get_json()["detail"]
    assert "s3cret" not in response.text
    assert "127.0.0.1" not in response.text
    assert client.get("/health/live").status_code == 200


def test_ready_names_parts_only_for_monitoring(serve: Callable[..., Flask], settings: Settings) -> None:
    assert settings.database.url
    local = serve("postgresql+psycopg2://user:s3cret@127.0.0.1:1/none", broker="redis://:s3cret@127.0.0.1:1/0")
    response = local.test_client().get("/health/ready")
    assert response.status_code == 503
    parts = response.get_json()["parts"]
    assert "does not answer" in parts["database"]
    assert parts["migrations"] == "Not known."
    assert "jobs wait" in parts["broker"]
    assert "s3cret" not in response.text

    closed = serve(settings.database.url, ops_token="a token for those who watch")
    assert "parts" not in closed.test_client().get("/health/ready").get_json()
    headers = {"Authorization": "Bearer a token for those who watch"}
    opened = closed.test_client().get("/health/ready", headers=headers)
    assert opened.status_code == 200
    assert opened.get_json()["parts"] == {"database": "ok", "migrations": "ok", "broker": "Not configured."}


def test_ready_is_200_without_broker(serve: Callable[..., Flask], settings: Settings) -> None:
    response = serve(settings.database.url, broker="redis://127.0.0.1:1/0").test_client().get("/health/ready")
    assert response.status_code == 200
    assert "does not answer" in response.get_json()["parts"]["broker"].lower()
