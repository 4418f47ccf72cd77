"""Search after a turn: the message to the broker, a real worker, and the search document."""

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
from ops.catalogue.jobs import INDEX_CONVERSATIONS, SWEEP_SEARCH
from tests.factories import LoggedInUser
from tests.jobs.processes import CeleryProcess
from tests.search_index import mark_all_indexed
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-search")]

URL = "/api/conversations"


@pytest.fixture(scope="module")
def chat_app(settings: Settings, flask_app: Flask, broker: str) -> Iterator[Flask]:
    """Create the application with the demo provider and a broker."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    chat_app = create_app(replace(settings, jobs=jobs))
    yield chat_app
    with chat_app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def worker(start: Callable[..., CeleryProcess]) -> CeleryProcess:
    """Start a worker of the real jobs."""
    return start("worker", "tasks.worker").wait_for_log(" ready.")


def test_catalogue_has_the_job_that_the_application_enqueues() -> None:
    assert INDEX_CONVERSATIONS.name == JOB


def test_new_renamed_and_imported_conversations_are_found(
    chat_app: Flask, worker: CeleryProcess, user: LoggedInUser, runs: Callable[..., list[Any]]
) -> None:
    client, before = chat_app.test_client(), {run.id for run in runs(job=INDEX_CONVERSATIONS)}

    def search(q: str) -> list[str]:
        items = client.get(URL, query_string={"q": q}, headers=user.headers).json["items"]
        return [item["id"] for item in items]

    chat = client.post("/api/chat", json={"message": "porcupine"}, headers=user.headers).json["conversation"]["id"]
    created = client.post(URL, json={"title": "hedgehog"}, headers=user.headers).json["id"]
    document = {"version": 1, "conversation": {}, "messages": [{"role": "user", "content": "platypus"}]}
    imported = client.post(f"{URL}/import", json=document, headers=user.headers).json["id"]
    for q, conversation in (("porcupine", chat), ("hedgehog", created), ("platypus", imported)):
        assert wait_until(lambda q=q: search(q)) == [conversation]
    client.patch(f"{URL}/{created}", json={"title": "wombat"}, headers=user.headers)
    assert wait_until(lambda: search("wombat")) == [created]
    assert search("hedgehog") == []
    reports = [run.report for run in wait_until(lambda: _ended(runs, before))]
    assert sum(report["written"] for report in reports) >= 4
    assert sum(report["failed"] for report in reports) == 0


def _ended(runs: Callable[..., list[Any]], before: set[Any]) -> list[Any]:
    rows = [run for run in runs(job=INDEX_CONVERSATIONS) if run.id not in before]
    return rows if rows and all(run.status == "succeeded" for run in rows) else []


def test_sweep_indexes_conversation_without_message(
    worker: CeleryProcess,
    engine: Engine,
    user: LoggedInUser,
    send: Callable[..., str],
    wait_for_runs: Callable[..., list[Any]],
) -> None:
    mark_all_indexed(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO conversations (user_id, id, title) VALUES (:u, gen_random_uuid(), 'lost')"),
            {"u": user.id},
        )
    [run] = wait_for_runs(send(SWEEP_SEARCH))
    assert run.report["complete"]
    assert run.report["written"] >= 1
    with engine.connect() as connection:
        title = connection.execute(
            text("SELECT indexed_title FROM conversation_search WHERE user_id = :u"), {"u": user.id}
        ).scalar_one()
    assert title == "lost"


def test_invalid_arguments_are_a_failed_run(
    worker: CeleryProcess, send: Callable[..., str], wait_for_runs: Callable[..., list[Any]]
) -> None:
    run = wait_for_runs(send(INDEX_CONVERSATIONS, conversations=[["no user", "no id"]]), "failed")[0]
    assert run.reason.startswith("ValueError")
    assert orjson.dumps(run.arguments)
