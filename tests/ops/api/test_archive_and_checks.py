"""Holds, undo and restore over HTTP, and what the doctor last found."""

from dataclasses import dataclass, make_dataclass
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.extensions import db
from app.jobs import Message
from app.models.columns import new_id
from ops.api.reports import schema_of
from ops.archive.run import run as run_archive
from ops.catalogue import EXAMINE, RESTORE_ACCOUNT, UNDO_ARCHIVE
from ops.declarations import load
from ops.levels import Level
from ops.runs import Asked, run_job
from ops.seed import remove_seeds, seed
from tests.factories import Account


@pytest.fixture
def conversation(client: FlaskClient, user: Account) -> str:
    answer = client.post("/api/chat", json={"message": "hello"}, headers=user.headers)
    return str(answer.get_json()["conversation"]["id"])


def test_what_is_held_stays_until_the_hold_is_lifted(
    client: FlaskClient, operator: Account, user: Account, conversation: str
) -> None:
    holds = "/api/admin/archive/holds"
    body = {"conversation_id": conversation, "reason": "court order 17/2026"}
    laid = client.post(holds, json=body, headers=operator.headers)
    assert (laid.status_code, laid.get_json()["held"]) == (201, 1)
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 409
    [hold] = client.get(holds, query_string={"account_id": str(user.id)}, headers=operator.headers).get_json()["items"]
    assert (hold["reason"], hold["placed_by"]) == ("court order 17/2026", str(operator.id))
    lifted = client.delete(f"{holds}/{hold['id']}", headers=operator.headers)
    assert (lifted.status_code, lifted.get_json()["still_held"]) == (200, False)
    assert client.delete(f"{holds}/{hold['id']}", headers=operator.headers).status_code == 404
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 204


@pytest.mark.parametrize(
    "named", [{}, {"conversation_id": str(new_id()), "account_id": str(new_id())}, {"conversation_id": None}]
)
def test_a_hold_names_one_thing(client: FlaskClient, operator: Account, named: dict[str, Any]) -> None:
    answer = client.post("/api/admin/archive/holds", json={**named, "reason": "why"}, headers=operator.headers)
    assert answer.status_code == 400


def test_a_run_is_taken_back(
    served: Flask, client: FlaskClient, operator: Account, monkeypatch: pytest.MonkeyPatch
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
        load("ops.care.search:sweep")()  # what is not found by its words is not bundled
        done = run_archive()
    assert done.conversations >= 3
    [latest] = client.get("/api/admin/archive/runs", headers=operator.headers).get_json()["items"][:1]
    assert (latest["id"], latest["conversations"]) == (str(done.id), done.conversations)
    asked = client.post(f"/api/admin/archive/runs/{done.id}/undo", headers=operator.headers)
    assert asked.status_code == 202, asked.text
    [message] = sent
    assert message.name == UNDO_ARCHIVE.name
    with served.app_context():
        assert load(UNDO_ARCHIVE.where)(**message.arguments).restored == done.conversations
        remove_seeds()
    assert client.post(f"/api/admin/archive/runs/{new_id()}/undo", headers=operator.headers).status_code == 404


def test_what_there_is_to_do_and_how_it_stands(client: FlaskClient, operator: Account) -> None:
    planned = client.get("/api/admin/archive/plan", headers=operator.headers)
    assert (planned.status_code, planned.get_json()["complete"]) == (200, True)
    stands = client.get("/api/admin/archive/status", headers=operator.headers)
    assert (stands.status_code, stands.get_json()["under_way"]) == (200, False)
    assert stands.get_json()["after_days"] == 90


def test_an_accounts_bundles_are_taken_back(
    served: Flask, client: FlaskClient, operator: Account, user: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)  # the broker's side is in tests/jobs
    path = "/api/admin/archive/accounts/{}/restore"
    assert client.post(path.format(new_id()), headers=operator.headers).status_code == 404
    assert client.post(path.format(user.id), headers=operator.headers).status_code == 202
    [message] = sent
    assert message.name == RESTORE_ACCOUNT.name
    with served.app_context():
        assert load(RESTORE_ACCOUNT.where)(**message.arguments).restored == 0


def test_one_conversation_is_restored(client: FlaskClient, operator: Account, conversation: str) -> None:
    path = "/api/admin/archive/conversations/{}/restore"
    assert client.post(path.format(conversation), headers=operator.headers).get_json()["restored"] == 0
    assert client.post(path.format(new_id()), headers=operator.headers).status_code == 404


def test_the_doctors_last_answers(served: Flask, client: FlaskClient, operator: Account) -> None:
    with served.app_context():
        run = run_job(EXAMINE, load(EXAMINE.where), Asked())
    assert run.report is not None
    told = client.get("/api/admin/checks", headers=operator.headers).get_json()
    assert told["level"] == run.report["level"]
    assert [answer["check"] for answer in told["answers"]] == [answer["check"] for answer in run.report["answers"]]


@dataclass
class _Inner:
    level: Level


@dataclass
class _Report:
    """What a test tells."""

    took: timedelta | None
    parts: tuple[_Inner, ...]
    counts: dict[str, int]


def test_a_reports_schema_tells_what_it_holds() -> None:
    told = schema_of(_Report)().dump(_Report(timedelta(minutes=2), (_Inner(Level.UNKNOWN),), {"a": 1}))
    assert told == {"took": 120, "parts": [{"level": "cannot judge"}], "counts": {"a": 1}}
    assert schema_of(_Report) is schema_of(_Report)


def test_what_json_lacks_is_no_report() -> None:
    @dataclass
    class Strange:
        what: complex

    with pytest.raises(TypeError, match="complex"):
        schema_of(Strange)


def test_two_reports_of_one_name_are_refused() -> None:
    first = make_dataclass("Twin", [("one", int)])
    second = make_dataclass("TwinReport", [("two", int)])
    schema_of(first)
    with pytest.raises(TypeError, match="one name"):
        schema_of(second)
