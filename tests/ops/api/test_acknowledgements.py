"""The admin API of acknowledged findings."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from ops.catalogue.declarations import load
from ops.catalogue.jobs import RUN_DOCTOR
from ops.runs.run import RunRequest, run_job
from tests.factories import LoggedInUser

CHECK = "beat.alive"  # no beat has run here
PATH = "/api/admin/checks/acknowledgements"


@pytest.fixture
def last_report(served: Flask) -> str:
    """Record a report of the doctor. Returns the object of a finding of `CHECK`."""
    with served.app_context():
        run = run_job(RUN_DOCTOR, load(RUN_DOCTOR.function), RunRequest())
    assert run.report is not None
    [result] = [result for result in run.report["results"] if result["check"] == CHECK]
    return str(result["findings"][0]["object"])


def test_acknowledgement_is_created_listed_and_withdrawn(
    served: Flask,
    client: FlaskClient,
    operator: LoggedInUser,
    make_user: Callable[..., LoggedInUser],
    engine: Engine,
    last_report: str,
) -> None:
    until = str(datetime.now(UTC).date() + timedelta(days=3))
    body = {"check": CHECK, "object": last_report, "reason": "a test server", "until": until}
    assert client.post(PATH, json=body, headers=make_user().headers).status_code == 403
    created = client.post(PATH, json=body, headers=operator.headers)
    assert created.status_code == 201, created.text
    accepted = created.get_json()
    assert {name: accepted[name] for name in body} == body
    assert (accepted["by"], accepted["active"]) == (str(operator.id), True)
    assert accepted["id"] in [item["id"] for item in client.get(PATH, headers=operator.headers).get_json()["items"]]
    with served.app_context():
        run_job(RUN_DOCTOR, load(RUN_DOCTOR.function), RunRequest())
    report = client.get("/api/admin/checks", headers=operator.headers)
    assert report.status_code == 200, report.text
    [result] = [result for result in report.get_json()["results"] if result["check"] == CHECK]
    stored = result["findings"][0]["acknowledgement"]
    assert (stored["id"], stored["until"], stored["active"]) == (accepted["id"], until, True)
    assert client.delete(f"{PATH}/{accepted['id']}", headers=operator.headers).status_code == 200
    assert client.delete(f"{PATH}/{accepted['id']}", headers=operator.headers).status_code == 404
    with engine.connect() as connection:
        query = "SELECT action, result FROM audit_events WHERE actor_id = :id ORDER BY id"
        rows = [tuple(row) for row in connection.execute(text(query), {"id": operator.id})]
    assert rows == [
        ("finding.acknowledge", "done"),
        ("finding.withdraw", "done"),
        ("finding.withdraw", "refused"),
    ]


def test_invalid_acknowledgement_is_refused(client: FlaskClient, operator: LoggedInUser, last_report: str) -> None:
    body = {"check": CHECK, "object": last_report, "reason": "a test server", "until": "2030-01-01"}
    for change, status in (
        ({"until": "2020-01-01"}, 400),
        ({"until": "9999-12-31"}, 400),
        ({"until": "never"}, 400),
        ({"until": None}, 400),
        ({"reason": " "}, 400),
        ({"reason": "x" * 1001}, 400),
        ({"check": "no.such"}, 404),
        ({"object": "no such"}, 404),
        ({"object": "x" * 501}, 400),
    ):
        assert client.post(PATH, json={**body, **change}, headers=operator.headers).status_code == status, change
