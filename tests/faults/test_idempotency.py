"""Requests with an idempotency key whose worker is killed: repeating them creates one resource."""

import signal
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3
from sqlalchemy import Engine, text

from tests.api.rows import row_held
from tests.factories import LoggedInUser
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

PROMPT = {"title": "Tone", "content": "Be brief."}


@pytest.fixture
def rows(engine: Engine) -> Callable[..., list[Any]]:
    def run(query: str, **parameters: Any) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(text(query), parameters))

    return run


def test_worker_killed_between_claim_and_commit_leaves_no_claim_and_no_row(
    engine: Engine, database_url: str, tmp_path: Path, user: LoggedInUser, rows: Callable[..., list[Any]]
) -> None:
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1") as web:
        project = web.post("/api/projects", {"name": "Mine"}, user.headers).json()["id"]
        path, headers = f"/api/projects/{project}/prompts", {**user.headers, "Idempotency-Key": "once"}
        with ThreadPoolExecutor(1) as threads, row_held(engine, "projects", user, project) as commit_when_waiting:
            pending = threads.submit(web.post, path, PROMPT, headers)
            wait_until(lambda: _waiting_for_project(rows), "the request does not wait for the project's row")
            [worker] = web.workers()
            worker.send_signal(signal.SIGKILL)
            with pytest.raises(urllib3.exceptions.ProtocolError):
                pending.result()
            commit_when_waiting(1)  # the killed worker's statement still runs; its result is lost
        wait_until(lambda: worker.pid not in {other.pid for other in web.workers()} and web.workers(), "no new worker")
        web.wait_for_health()
        first, second = web.post(path, PROMPT, headers), web.post(path, PROMPT, headers)
        assert (first.status, first.headers.get("Idempotency-Replayed")) == (201, None)
        assert (second.status, second.headers.get("Idempotency-Replayed")) == (201, "true")
        assert second.data == first.data
        assert len(rows("SELECT 1 FROM prompts WHERE user_id = :u", u=user.id)) == 1


def _waiting_for_project(rows: Callable[..., list[Any]]) -> list[Any]:
    return rows(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE '%projects.lock%'"
    )


KILLS = 6
CLIENTS = 8  # in pairs that send the same requests


class RepeatingClients:
    """Clients that repeat each request until it is answered."""

    def __init__(self, web: WebServer, user: LoggedInUser) -> None:
        self._web, self._user = web, user
        self._stopping = threading.Event()
        self._pause = threading.Event()  # never set
        self.answered: dict[str, list[str]] = defaultdict(list)  # ids of the responses, by key
        self.errors: list[str] = []

    def __enter__(self) -> "RepeatingClients":
        self._threads = [threading.Thread(target=self._run, args=(n // 2,), daemon=True) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def count_answers(self) -> int:
        """Count the answered requests."""
        return sum(map(len, list(self.answered.values())))

    def _run(self, pair: int) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            self._send(f"{pair}-{number}")

    def _send(self, key: str) -> None:
        headers = {**self._user.headers, "Idempotency-Key": key}
        for _ in range(200):
            try:
                answer = self._web.post("/api/projects", {"name": key}, headers)
            except urllib3.exceptions.HTTPError:
                continue  # the worker was killed; the request may have been carried out
            if answer.status == 201:
                self.answered[key].append(answer.json()["id"])
                return
            if answer.status not in (409, 429, 503):
                self.errors.append(f"{answer.status} {answer.data!r}")
                return
            self._pause.wait(int(answer.headers.get("Retry-After", 1)))
        self.errors.append(f"{key} was never answered")


@pytest.mark.timeout(600)  # long enough for a loaded machine
def test_killed_workers_create_one_project_per_key(
    database_url: str, tmp_path: Path, user: LoggedInUser, rows: Callable[..., list[Any]]
) -> None:
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="2") as web:
        with RepeatingClients(web, user) as clients:
            for kill in range(KILLS):
                before = clients.count_answers()
                enough = before + 3 * CLIENTS
                wait_until(lambda enough=enough: clients.count_answers() > enough, f"too few answers after kill {kill}")
                web.workers()[0].send_signal(signal.SIGKILL)
        assert clients.errors == []
    projects = {row.name: str(row.id) for row in rows("SELECT name, id FROM projects WHERE user_id = :u", u=user.id)}
    assert len(projects) == len(rows("SELECT 1 FROM projects WHERE user_id = :u", u=user.id))
    assert {key: set(ids) for key, ids in clients.answered.items()} == {key: {projects[key]} for key in projects}
    assert rows("SELECT 1 FROM idempotency_keys WHERE user_id = :u AND status IS NULL", u=user.id) == []
