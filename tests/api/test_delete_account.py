"""Deletion of the own account over HTTP, and the job that erases it."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.config import Settings
from app.errors import Conflict, NotFound
from app.extensions import db
from app.factory import create_app
from app.jobs import INTERACTIVE
from app.repositories.owned import count_rows
from app.services.account_changes import ERASURE_JOB
from ops.catalogue.jobs import ERASE_USER
from ops.runs.actors import Actor
from ops.users.erasure import erase, run_erasure_job
from ops.users.requested_erasures import erase_requested
from ops.users.users import enable
from tests.api.keys import make_key
from tests.api.responses import assert_problem, bearer
from tests.factories import PASSWORD, LoggedInUser, make_conversation
from tests.jobs.conftest import broker, queue, redis_server
from tests.jobs.test_enqueue import TIMEOUT

__all__ = ["broker", "queue", "redis_server"]  # fixtures


@pytest.fixture(scope="module")
def served(settings: Settings, broker: str, flask_app: Flask) -> Iterator[Flask]:
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    served = create_app(replace(settings, jobs=jobs))
    with served.app_context():
        yield served
        db.engine.dispose()


@pytest.fixture
def client(served: Flask) -> FlaskClient:
    return served.test_client()


def delete(client: FlaskClient, user: LoggedInUser, password: str = PASSWORD) -> TestResponse:
    return client.post("/api/auth/delete", json={"password": password}, headers=user.headers)


def receipt(client: FlaskClient, receipt_id: str) -> dict[str, Any]:
    response = client.get(f"/api/auth/deletions/{receipt_id}")
    assert response.status_code == 200, response.text
    return dict(response.json or {})


def run(engine: Engine, statement: str, **parameters: Any) -> list[Any]:
    with engine.begin() as connection:
        result = connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else []


def test_job_of_the_request_erases_the_account(
    client: FlaskClient, served: Flask, engine: Engine, user: LoggedInUser, queue: "redis.Redis[bytes]"
) -> None:
    key = make_key(served, user)
    make_conversation(engine, user)
    queue.delete(INTERACTIVE)
    response = delete(client, user)
    assert response.status_code == 202, response.text
    requested = response.json or {}
    assert requested["status"] == "pending"
    for credential in (user.access_token, key.secret):
        assert client.get("/api/conversations", headers=bearer(credential)).status_code == 401
    login = client.post("/api/auth/login", json={"email": user.email, "password": PASSWORD})
    assert_problem(login, 403, "not_allowed")
    assert receipt(client, requested["receipt_id"]) == requested

    assert served.extensions["jobs"].drain(TIMEOUT)
    [message] = [orjson.loads(raw) for raw in queue.lrange(INTERACTIVE, 0, -1)]
    assert message["headers"]["task"] == ERASE_USER.name == ERASURE_JOB
    [_, arguments, _] = orjson.loads(base64.b64decode(message["body"]))
    erased = run_erasure_job(**arguments)
    assert erased is not None
    assert str(erased.id) == requested["receipt_id"]
    done = receipt(client, requested["receipt_id"])
    assert (done["status"], done["rows"]["users"], done["rows"]["conversations"]) == ("erased", 1, 1)
    assert (done["backups"], done["backups_until"]) == (0, None)
    with engine.connect() as connection:
        assert count_rows(connection, user.id) == {}
    actions = run(engine, "SELECT action, result FROM audit_events WHERE target = :u ORDER BY id", u=str(user.id))
    assert [tuple(row) for row in actions] == [("user.request_erasure", "done"), ("user.erase", "done")]
    assert run_erasure_job(**arguments) is None  # a second delivery


def test_wrong_password_deletes_nothing(client: FlaskClient, user: LoggedInUser) -> None:
    problem = assert_problem(delete(client, user, "wrong horse"), 400, "invalid_input")
    assert problem["errors"] == {"password": ["This is not your password."]}
    assert client.get("/api/auth/me", headers=user.headers).status_code == 200


def test_legal_hold_refuses_and_changes_nothing(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    make_conversation(engine, user, legal_hold=True)
    problem = assert_problem(delete(client, user), 409, "account_held")
    assert "legal hold" in problem["detail"]
    assert client.get("/api/auth/me", headers=user.headers).status_code == 200
    assert run(engine, "SELECT 1 FROM pending_erasures WHERE account_id = :u", u=user.id) == []


def test_lost_job_is_done_by_the_sweep(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    receipt_id = (delete(client, user).json or {})["receipt_id"]
    assert erase_requested().erased == 0  # the job of the request has its time
    assert receipt(client, receipt_id)["status"] == "pending"
    assert erase_requested(min_age=timedelta()).erased >= 1
    assert receipt(client, receipt_id)["status"] == "erased"


def test_hold_placed_after_the_request_keeps_the_data(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    conversation_id = make_conversation(engine, user)
    receipt_id = (delete(client, user).json or {})["receipt_id"]
    run(engine, "UPDATE conversations SET legal_hold = true WHERE id = :c", c=conversation_id)
    assert erase_requested(min_age=timedelta()).held >= 1
    assert receipt(client, receipt_id)["status"] == "pending"
    run(engine, "UPDATE conversations SET legal_hold = false WHERE id = :c", c=conversation_id)
    assert erase_requested(min_age=timedelta()).held == 0
    assert receipt(client, receipt_id)["status"] == "erased"


def test_deleted_account_cannot_be_enabled(client: FlaskClient, user: LoggedInUser) -> None:
    receipt_id = (delete(client, user).json or {})["receipt_id"]
    with pytest.raises(Conflict, match="has deleted this account"):
        enable(user_id=user.id)
    erase_requested(min_age=timedelta())
    assert receipt(client, receipt_id)["status"] == "erased"
    with pytest.raises(NotFound):
        enable(user_id=user.id)


def test_erasure_by_an_operator_gives_the_requested_receipt(client: FlaskClient, user: LoggedInUser) -> None:
    receipt_id = (delete(client, user).json or {})["receipt_id"]
    erased = erase(user_id=user.id, by=Actor(kind="command", name="me@host"), reason="support case")
    assert str(erased.id) == receipt_id
    assert receipt(client, receipt_id)["status"] == "erased"


def test_receipt_has_no_personal_data(client: FlaskClient, user: LoggedInUser) -> None:
    receipt_id = (delete(client, user).json or {})["receipt_id"]
    erase_requested(min_age=timedelta())
    shown = client.get(f"/api/auth/deletions/{receipt_id}").text
    assert user.email not in shown
    assert str(user.id) not in shown


def test_unknown_receipt_is_404(client: FlaskClient, user: LoggedInUser) -> None:
    for unknown in (UUID(int=1), user.id, "x"):
        assert client.get(f"/api/auth/deletions/{unknown}").status_code == 404


def test_user_erased_by_operator_has_no_other_users_receipt(
    client: FlaskClient, make_user: Callable[..., LoggedInUser]
) -> None:
    first, second = make_user(), make_user()
    receipts = [(delete(client, user).json or {})["receipt_id"] for user in (first, second)]
    assert len(set(receipts)) == 2
    erase(user_id=first.id, by=Actor(kind="command", name="me@host"), reason="support case")
    assert [receipt(client, receipt_id)["status"] for receipt_id in receipts] == ["erased", "pending"]
