"""Operators see what ran, have jobs run, and are written down."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.jobs import Message
from app.models.columns import new_id
from ops.catalogue import JOBS, PURGE_SESSIONS
from ops.declarations import load
from ops.runs import Asked, run_job
from tests.factories import Account


def test_all_jobs_with_how_their_last_run_ended(served: Flask, client: FlaskClient, operator: Account) -> None:
    with served.app_context():
        run_job(PURGE_SESSIONS, load(PURGE_SESSIONS.where), Asked())
    answer = client.get("/api/admin/jobs", headers=operator.headers).get_json()
    assert [item["job"] for item in answer["items"]] == [job.name for job in JOBS]
    [item] = [item for item in answer["items"] if item["job"] == PURGE_SESSIONS.name]
    assert item["last"] == "succeeded"
    assert item["succeeded"] >= item["attempted"]
    assert item["due"] > item["succeeded"]


def test_runs_in_pages(served: Flask, client: FlaskClient, operator: Account) -> None:
    with served.app_context():
        ran = [str(run_job(PURGE_SESSIONS, load(PURGE_SESSIONS.where), Asked()).id) for _ in range(3)]
    query = {"job": PURGE_SESSIONS.name, "limit": 2}
    first = client.get("/api/admin/jobs/runs", query_string=query, headers=operator.headers).get_json()
    assert [item["id"] for item in first["items"]] == [ran[2], ran[1]]
    assert first["items"][0]["report"] == {"removed": 0, "more": False, "dry_run": False}
    query["cursor"] = first["next_cursor"]
    rest = client.get("/api/admin/jobs/runs", query_string=query, headers=operator.headers).get_json()
    assert rest["items"][0]["id"] == ran[0]
    one = client.get(f"/api/admin/jobs/runs/{ran[1]}", headers=operator.headers)
    assert one.get_json() == first["items"][1]
    assert client.get(f"/api/admin/jobs/runs/{new_id()}", headers=operator.headers).status_code == 404


def test_a_job_is_asked_for_and_that_is_written_down(
    served: Flask, client: FlaskClient, operator: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)  # the broker's side is in tests/jobs
    answer = client.post(f"/api/admin/jobs/{PURGE_SESSIONS.name}/runs", headers=operator.headers)
    assert answer.status_code == 202
    assert [(str(message.id), message.name, message.queue) for message in sent] == [
        (answer.get_json()["message_id"], PURGE_SESSIONS.name, "maintenance")
    ]
    query = {"target": PURGE_SESSIONS.name, "action": "job.ask", "limit": 1}
    [act] = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert (act["actor"], act["actor_kind"], act["result"]) == (str(operator.id), "user", "done")
    assert act["address"] == "127.0.0.1"
    assert act["details"] == {"message_id": answer.get_json()["message_id"]}
    assert act["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("name", ["search.index_conversations", "no.such", "%00"])
def test_what_does_not_run_by_itself_cannot_be_asked_for(client: FlaskClient, operator: Account, name: str) -> None:
    answer = client.post(f"/api/admin/jobs/{name}/runs", headers=operator.headers)
    assert answer.status_code in (400, 404)


def test_nobody_else_sees_any_of_it(client: FlaskClient, user: Account) -> None:
    for path in ("/api/admin/jobs", "/api/admin/jobs/runs", "/api/admin/audit"):
        assert client.get(path, headers=user.headers).status_code == 403
    assert client.post("/api/admin/jobs/search.sweep/runs", headers=user.headers).status_code == 403
