"""Plans over HTTP: made by a job, read, and applied by a worker."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import db
from app.jobs import Message
from app.models.columns import new_id
from ops.catalogue import APPLY_INDEX_PLAN, PLAN_INDEXES
from ops.declarations import load
from ops.runs import Asked, Run, run_job
from tests.contracts.application import as_served
from tests.factories import Account, make_account
from tests.ops.indexes.conftest import House


@pytest.fixture
def served(house: House) -> Iterator[Flask]:
    served = as_served(house.settings)
    with served.app_context():
        yield served
        db.engine.dispose()


@pytest.fixture
def client(served: Flask) -> FlaskClient:
    return served.test_client()


@pytest.fixture
def operator(served: Flask) -> Account:
    return make_account(served, db.engine, role="operator")


@pytest.fixture
def sent(served: Flask, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What the broker would get; its side is in tests/jobs."""
    messages: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", messages.append)
    return messages


def run_asked(message: Message) -> Run:
    return run_job(APPLY_INDEX_PLAN, lambda: load(APPLY_INDEX_PLAN.where)(**message.arguments), Asked())


def test_a_plan_is_made_read_and_applied(
    house: House, client: FlaskClient, operator: Account, sent: list[Message]
) -> None:
    assert client.get("/api/admin/indexes/plan", headers=operator.headers).status_code == 404
    house.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    made = run_job(PLAN_INDEXES, load(PLAN_INDEXES.where), Asked())
    told = client.get("/api/admin/indexes/plan", headers=operator.headers).get_json()
    assert told["run_id"] == str(made.id)
    (step,) = told["plan"]["steps"]
    assert step["sql"] == ["DROP INDEX CONCURRENTLY public.twice"]
    body = {"run_id": told["run_id"], "now": True, "max_minutes": 5}
    assert client.post("/api/admin/indexes/apply", json=body, headers=operator.headers).status_code == 202
    (message,) = sent
    assert message.name == "indexes.apply"
    assert house.value("SELECT to_regclass('twice')") is not None
    report = run_asked(message).report
    assert report is not None
    assert (report["level"], report["steps"][0]["outcome"]) == ("ok", "done")
    assert house.value("SELECT to_regclass('twice')") is None
    acts = house.run("SELECT actor_kind, action, result FROM audit_events ORDER BY id")
    assert acts == [("user", "index.ask_apply", "done"), ("job", "index.apply", "done")]


def test_what_may_not_begin_is_a_failed_run_that_says_why(
    house: House, client: FlaskClient, operator: Account, sent: list[Message]
) -> None:
    house.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    made = run_job(PLAN_INDEXES, load(PLAN_INDEXES.where), Asked())
    client.post("/api/admin/indexes/apply", json={"run_id": str(made.id), "now": True}, headers=operator.headers)
    house.run("UPDATE job_runs SET report = jsonb_set(report, '{made_at}', '\"2020-01-01T00:00:00+00:00\"')")
    run = run_asked(sent[0])
    assert (run.status, "plan anew" in str(run.reason)) == ("failed", True)
    assert house.value("SELECT to_regclass('twice')") is not None


def test_only_what_a_plan_came_of_is_applied(
    house: House, client: FlaskClient, operator: Account, sent: list[Message]
) -> None:
    other = run_job(APPLY_INDEX_PLAN, lambda: None, Asked())
    for run_id in (new_id(), other.id):
        asked = client.post("/api/admin/indexes/apply", json={"run_id": str(run_id)}, headers=operator.headers)
        assert asked.status_code == 404
    for wrong in ({}, {"run_id": "x"}, {"run_id": str(other.id), "max_minutes": 51}, {"run_id": None}):
        asked = client.post("/api/admin/indexes/apply", json=wrong, headers=operator.headers)
        assert asked.status_code == 400
    assert sent == []
