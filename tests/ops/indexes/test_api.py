"""Plans over the admin API."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import db
from app.ids import new_id
from app.jobs import Message
from ops.catalogue.declarations import load
from ops.catalogue.jobs import APPLY_INDEX_PLAN, PLAN_INDEXES
from ops.runs.run import RunRequest, RunResult, run_job
from tests.contracts.application import as_served
from tests.factories import LoggedInUser, insert_user
from tests.ops.indexes.conftest import IndexDatabase


@pytest.fixture
def served(database: IndexDatabase) -> Iterator[Flask]:
    served = as_served(database.settings)
    with served.app_context():
        yield served
        db.engine.dispose()


@pytest.fixture
def client(served: Flask) -> FlaskClient:
    return served.test_client()


@pytest.fixture
def operator(served: Flask) -> LoggedInUser:
    return insert_user(served, db.engine, role="operator")


@pytest.fixture
def sent(served: Flask, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Collect the messages that would be sent to the broker."""
    messages: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", messages.append)
    return messages


def run_asked(message: Message) -> RunResult:
    return run_job(APPLY_INDEX_PLAN, lambda: load(APPLY_INDEX_PLAN.function)(**message.arguments), RunRequest())


def test_plan_is_made_read_and_applied_over_the_api(
    database: IndexDatabase, client: FlaskClient, operator: LoggedInUser, sent: list[Message]
) -> None:
    assert client.get("/api/admin/indexes/plan", headers=operator.headers).status_code == 404
    database.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    made = run_job(PLAN_INDEXES, load(PLAN_INDEXES.function), RunRequest())
    planned = client.get("/api/admin/indexes/plan", headers=operator.headers).get_json()
    assert planned["run_id"] == str(made.id)
    (step,) = planned["plan"]["steps"]
    assert step["sql"] == ["DROP INDEX CONCURRENTLY public.twice"]
    body = {"run_id": planned["run_id"], "now": True, "max_minutes": 5}
    assert client.post("/api/admin/indexes/apply", json=body, headers=operator.headers).status_code == 202
    (message,) = sent
    assert message.name == "indexes.apply"
    assert database.value("SELECT to_regclass('twice')") is not None
    report = run_asked(message).report
    assert report is not None
    assert (report["level"], report["steps"][0]["outcome"]) == ("ok", "done")
    assert database.value("SELECT to_regclass('twice')") is None
    acts = database.run("SELECT actor_kind, action, result FROM audit_events ORDER BY id")
    assert acts == [("user", "index.request_apply", "done"), ("job", "index.apply", "done")]


def test_unmet_precondition_fails_the_run_with_its_reason(
    database: IndexDatabase, client: FlaskClient, operator: LoggedInUser, sent: list[Message]
) -> None:
    database.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    made = run_job(PLAN_INDEXES, load(PLAN_INDEXES.function), RunRequest())
    client.post("/api/admin/indexes/apply", json={"run_id": str(made.id), "now": True}, headers=operator.headers)
    database.run("UPDATE job_runs SET report = jsonb_set(report, '{made_at}', '\"2020-01-01T00:00:00+00:00\"')")
    run = run_asked(sent[0])
    assert (run.status, "make a new plan" in str(run.reason)) == ("failed", True)
    assert database.value("SELECT to_regclass('twice')") is not None


def test_run_without_a_plan_is_not_found(
    database: IndexDatabase, client: FlaskClient, operator: LoggedInUser, sent: list[Message]
) -> None:
    other = run_job(APPLY_INDEX_PLAN, lambda: None, RunRequest())
    for run_id in (new_id(), other.id):
        asked = client.post("/api/admin/indexes/apply", json={"run_id": str(run_id)}, headers=operator.headers)
        assert asked.status_code == 404
    for wrong in ({}, {"run_id": "x"}, {"run_id": str(other.id), "max_minutes": 51}, {"run_id": None}):
        asked = client.post("/api/admin/indexes/apply", json=wrong, headers=operator.headers)
        assert asked.status_code == 400
    assert sent == []
