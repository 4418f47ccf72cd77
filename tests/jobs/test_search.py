"""From a turn to what is found: the message, a real worker, the document."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.services.search_requests import JOB
from ops.catalogue import INDEX_CONVERSATIONS, SWEEP_SEARCH
from tests.factories import Account
from tests.jobs.processes import CeleryProcess, eventually

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-search")]

URL = "/api/conversations"


@pytest.fixture(scope="module")
def chat_app(settings: Settings, flask_app: Flask, broker: str) -> Iterator[Flask]:
    """The application with the demo provider, asking for jobs at the broker."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    chat_app = create_app(replace(settings, jobs=jobs))
    yield chat_app
    with chat_app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def worker(start: Callable[..., CeleryProcess]) -> CeleryProcess:
    """A worker of the jobs as they are."""
    return start("worker", "tasks.worker").says(" ready.")


def test_the_catalogue_has_the_job_that_the_application_asks_for() -> None:
    assert INDEX_CONVERSATIONS.name == JOB


def test_what_is_said_renamed_made_and_imported_is_found(
    chat_app: Flask, worker: CeleryProcess, user: Account, runs: Callable[..., list[Any]]
) -> None:
    client, before = chat_app.test_client(), {run.id for run in runs(job=INDEX_CONVERSATIONS)}

    def found(q: str) -> list[str]:
        items = client.get(URL, query_string={"q": q}, headers=user.headers).json["items"]
        return [item["id"] for item in items]

    said = client.post("/api/chat", json={"message": "porcupine"}, headers=user.headers).json["conversation"]["id"]
    made = client.post(URL, json={"title": "hedgehog"}, headers=user.headers).json["id"]
    document = {"version": 1, "conversation": {}, "messages": [{"role": "user", "content": "platypus"}]}
    imported = client.post(f"{URL}/import", json=document, headers=user.headers).json["id"]
    for q, conversation in (("porcupine", said), ("hedgehog", made), ("platypus", imported)):
        assert eventually(lambda q=q: found(q)) == [conversation]
    client.patch(f"{URL}/{made}", json={"title": "wombat"}, headers=user.headers)
    assert eventually(lambda: found("wombat")) == [made]
    assert found("hedgehog") == []
    reports = [run.report for run in eventually(lambda: _ended(runs, before))]
    assert sum(report["written"] for report in reports) >= 4
    assert sum(report["failed"] for report in reports) == 0


def _ended(runs: Callable[..., list[Any]], before: set[Any]) -> list[Any]:
    rows = [run for run in runs(job=INDEX_CONVERSATIONS) if run.id not in before]
    return rows if rows and all(run.status == "succeeded" for run in rows) else []


def test_the_sweep_finds_what_nobody_asked_for(
    worker: CeleryProcess, engine: Engine, user: Account, send: Callable[..., str], ended: Callable[..., list[Any]]
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO conversations (user_id, id, title) VALUES (:u, gen_random_uuid(), 'lost')"),
            {"u": user.id},
        )
    [run] = ended(send(SWEEP_SEARCH))
    assert run.report["complete"]
    assert run.report["written"] >= 1
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT indexed_title FROM conversation_search WHERE user_id = :u"), {"u": user.id}
        ).scalar_one()
    assert found == "lost"


def test_a_message_that_makes_no_sense_is_a_failed_run(
    worker: CeleryProcess, send: Callable[..., str], ended: Callable[..., list[Any]]
) -> None:
    run = ended(send(INDEX_CONVERSATIONS, conversations=[["nobody", "nothing"]]), "failed")[0]
    assert run.reason.startswith("ValueError")
    assert orjson.dumps(run.arguments)
