"""The admin API of the archive and of checks."""

from dataclasses import dataclass, make_dataclass
from datetime import timedelta
from typing import Annotated, Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import db
from app.ids import new_id
from app.jobs import Message
from ops.api.reports import schema_of
from ops.archive.run import run as run_archive
from ops.catalogue.declarations import load
from ops.catalogue.jobs import RESTORE_USER, RUN_DOCTOR, UNDO_ARCHIVE
from ops.levels import Level
from ops.runs.run import RunRequest, run_job
from ops.seed import delete_seeds, seed
from tests.factories import LoggedInUser


@pytest.fixture
def conversation(client: FlaskClient, user: LoggedInUser) -> str:
    response = client.post("/api/chat", json={"message": "hello"}, headers=user.headers)
    return str(response.get_json()["conversation"]["id"])


def test_held_conversation_cannot_be_deleted_until_the_hold_is_lifted(
    client: FlaskClient, operator: LoggedInUser, user: LoggedInUser, conversation: str
) -> None:
    holds = "/api/admin/archive/holds"
    body = {"conversation_id": conversation, "reason": "court order 17/2026"}
    laid = client.post(holds, json=body, headers=operator.headers)
    assert (laid.status_code, laid.get_json()["held"]) == (201, 1)
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 409
    [hold] = client.get(holds, query_string={"user_id": str(user.id)}, headers=operator.headers).get_json()["items"]
    assert (hold["reason"], hold["placed_by"]) == ("court order 17/2026", str(operator.id))
    lifted = client.delete(f"{holds}/{hold['id']}", headers=operator.headers)
    assert (lifted.status_code, lifted.get_json()["still_held"]) == (200, False)
    assert client.delete(f"{holds}/{hold['id']}", headers=operator.headers).status_code == 404
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 204


@pytest.mark.parametrize(
    "named", [{}, {"conversation_id": str(new_id()), "user_id": str(new_id())}, {"conversation_id": None}]
)
def test_hold_requires_exactly_one_target(client: FlaskClient, operator: LoggedInUser, named: dict[str, Any]) -> None:
    response = client.post(
        "/api/admin/archive/holds", json={**named, "reason": "court order"}, headers=operator.headers
    )
    assert response.status_code == 400


def test_undo_is_enqueued_and_restores_the_run(
    served: Flask, client: FlaskClient, operator: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)  # the broker's side is in tests/jobs
    with served.app_context():
        seed(users=1, conversations=3, messages=4, days=0)
        with db.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE conversations SET created_at = now() - interval '300 days', updated_at = now() - interval"
                " '200 days' WHERE user_id IN (SELECT id FROM users WHERE email LIKE '%%@seeded.invalid')"
            )
        done = run_archive()
    assert done.conversations >= 3
    [latest] = client.get("/api/admin/archive/runs", headers=operator.headers).get_json()["items"][:1]
    assert (latest["id"], latest["conversations"]) == (str(done.id), done.conversations)
    asked = client.post(f"/api/admin/archive/runs/{done.id}/undo", headers=operator.headers)
    assert asked.status_code == 202, asked.text
    [message] = sent
    assert message.name == UNDO_ARCHIVE.name
    with served.app_context():
        assert load(UNDO_ARCHIVE.function)(**message.arguments).restored == done.conversations
        delete_seeds()
    assert client.post(f"/api/admin/archive/runs/{new_id()}/undo", headers=operator.headers).status_code == 404


def test_plan_and_status(client: FlaskClient, operator: LoggedInUser) -> None:
    planned = client.get("/api/admin/archive/plan", headers=operator.headers)
    assert (planned.status_code, planned.get_json()["complete"]) == (200, True)
    current = client.get("/api/admin/archive/status", headers=operator.headers)
    assert (current.status_code, current.get_json()["running"]) == (200, False)
    assert current.get_json()["after_days"] == 90


def test_restore_of_a_user_is_enqueued(
    served: Flask, client: FlaskClient, operator: LoggedInUser, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)  # the broker's side is in tests/jobs
    path = "/api/admin/archive/users/{}/restore"
    assert client.post(path.format(new_id()), headers=operator.headers).status_code == 404
    assert client.post(path.format(user.id), headers=operator.headers).status_code == 202
    [message] = sent
    assert message.name == RESTORE_USER.name
    with served.app_context():
        assert load(RESTORE_USER.function)(**message.arguments).restored == 0


def test_one_conversation_is_restored(client: FlaskClient, operator: LoggedInUser, conversation: str) -> None:
    path = "/api/admin/archive/conversations/{}/restore"
    assert client.post(path.format(conversation), headers=operator.headers).get_json()["restored"] == 0
    assert client.post(path.format(new_id()), headers=operator.headers).status_code == 404


def test_last_doctor_report_is_returned(served: Flask, client: FlaskClient, operator: LoggedInUser) -> None:
    with served.app_context():
        run = run_job(RUN_DOCTOR, load(RUN_DOCTOR.function), RunRequest())
    assert run.report is not None
    response = client.get("/api/admin/checks", headers=operator.headers)
    assert response.status_code == 200, response.text
    data = response.get_json()
    assert data["level"] == run.report["level"], data
    assert [result["check"] for result in data["results"]] == [result["check"] for result in run.report["results"]]


@dataclass
class _Inner:
    level: Annotated[Level, "A level."]


@dataclass
class _Report:
    """A report of a test."""

    took: Annotated[timedelta | None, "A duration."]
    parts: Annotated[tuple[_Inner, ...], "Parts."]
    counts: Annotated[dict[str, int], "Counts."]


def test_schema_of_report_serializes_its_fields() -> None:
    data = schema_of(_Report)().dump(_Report(timedelta(minutes=2), (_Inner(Level.UNKNOWN),), {"a": 1}))
    assert data == {"took": 120, "parts": [{"level": "unknown"}], "counts": {"a": 1}}
    assert schema_of(_Report) is schema_of(_Report)


def test_field_without_json_form_is_refused() -> None:
    @dataclass
    class Strange:
        what: Annotated[complex, "A number."]

    with pytest.raises(TypeError, match="complex"):
        schema_of(Strange)


def test_field_without_description_is_refused() -> None:
    @dataclass
    class Undescribed:
        count: int

    with pytest.raises(TypeError, match="has no description"):
        schema_of(Undescribed)


def test_second_report_with_same_name_is_refused() -> None:
    first = make_dataclass("Twin", [("one", Annotated[int, "A number."])])
    second = make_dataclass("TwinReport", [("two", Annotated[int, "A number."])])
    schema_of(first)
    with pytest.raises(TypeError, match="same schema name"):
        schema_of(second)
