"""The admin API of jobs and of the audit."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.ids import new_id
from app.jobs import Message
from ops.catalogue.declarations import load
from ops.catalogue.jobs import JOBS, PURGE_SESSIONS
from ops.runs.run import RunRequest, run_job
from tests.factories import LoggedInUser


def test_jobs_are_listed_with_their_last_run(served: Flask, client: FlaskClient, operator: LoggedInUser) -> None:
    with served.app_context():
        run_job(PURGE_SESSIONS, load(PURGE_SESSIONS.function), RunRequest())
    response = client.get("/api/admin/jobs", headers=operator.headers).get_json()
    assert [item["job"] for item in response["items"]] == [job.name for job in JOBS]
    [item] = [item for item in response["items"] if item["job"] == PURGE_SESSIONS.name]
    assert item["last_status"] == "succeeded"
    assert item["last_succeeded_at"] >= item["last_started_at"]
    assert item["next_due_at"] > item["last_succeeded_at"]


def test_runs_are_paginated(served: Flask, client: FlaskClient, operator: LoggedInUser) -> None:
    with served.app_context():
        ran = [str(run_job(PURGE_SESSIONS, load(PURGE_SESSIONS.function), RunRequest()).id) for _ in range(3)]
    query = {"job": PURGE_SESSIONS.name, "limit": 2}
    first = client.get("/api/admin/jobs/runs", query_string=query, headers=operator.headers).get_json()
    assert [item["id"] for item in first["items"]] == [ran[2], ran[1]]
    assert first["items"][0]["report"] == {"deleted": 0, "more": False, "dry_run": False}
    query["cursor"] = first["next_cursor"]
    rest = client.get("/api/admin/jobs/runs", query_string=query, headers=operator.headers).get_json()
    assert rest["items"][0]["id"] == ran[0]
    one = client.get(f"/api/admin/jobs/runs/{ran[1]}", headers=operator.headers)
    assert one.get_json() == first["items"][1]
    assert client.get(f"/api/admin/jobs/runs/{new_id()}", headers=operator.headers).status_code == 404


def test_job_is_enqueued_and_audited(
    served: Flask, client: FlaskClient, operator: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)  # the broker's side is in tests/jobs
    response = client.post(f"/api/admin/jobs/{PURGE_SESSIONS.name}/runs", headers=operator.headers)
    assert response.status_code == 202
    assert [(str(message.id), message.name, message.queue) for message in sent] == [
        (response.get_json()["message_id"], PURGE_SESSIONS.name, "maintenance")
    ]
    query = {"target": PURGE_SESSIONS.name, "action": "job.request", "limit": 1}
    [act] = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert (act["actor"], act["actor_kind"], act["result"]) == (str(operator.id), "user", "done")
    assert act["address"] == "127.0.0.1"
    assert act["details"] == {"message_id": response.get_json()["message_id"]}
    assert act["request_id"] == response.headers["X-Request-ID"]


def test_dry_run_is_enqueued_with_its_argument(
    served: Flask, client: FlaskClient, operator: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)
    url = f"/api/admin/jobs/{PURGE_SESSIONS.name}/runs"
    assert client.post(url, json={"dry_run": True}, headers=operator.headers).status_code == 202
    assert client.post(url, json={"dry_run": False}, headers=operator.headers).status_code == 202
    assert [message.arguments for message in sent] == [{"dry_run": True}, {}]


def test_dry_run_of_job_without_one_is_refused(client: FlaskClient, operator: LoggedInUser) -> None:
    response = client.post("/api/admin/jobs/stats.record/runs", json={"dry_run": True}, headers=operator.headers)
    assert (response.status_code, response.get_json()["detail"]) == (400, "stats.record has no dry run.")


@pytest.mark.parametrize("name", ["search.index_conversations", "no.such", "%00"])
def test_job_without_schedule_is_not_found(client: FlaskClient, operator: LoggedInUser, name: str) -> None:
    response = client.post(f"/api/admin/jobs/{name}/runs", headers=operator.headers)
    assert response.status_code in (400, 404)


def test_jobs_and_audit_require_operator(client: FlaskClient, user: LoggedInUser) -> None:
    for path in ("/api/admin/jobs", "/api/admin/jobs/runs", "/api/admin/audit"):
        assert client.get(path, headers=user.headers).status_code == 403
    assert client.post("/api/admin/jobs/search.sweep/runs", headers=user.headers).status_code == 403
