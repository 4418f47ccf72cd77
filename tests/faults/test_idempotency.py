"""A worker is killed while it creates something: the same request, sent again, creates it once."""

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
from tests.factories import Account
from tests.faults.rig import until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

PROMPT = {"title": "Tone", "content": "Be brief."}


@pytest.fixture
def rows(engine: Engine) -> Callable[..., list[Any]]:
    def run(query: str, **parameters: Any) -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(text(query), parameters))

    return run


def test_a_kill_between_claim_and_commit_leaves_nothing_of_either(
    engine: Engine, database_url: str, tmp_path: Path, user: Account, rows: Callable[..., list[Any]]
) -> None:
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1") as web:
        project = web.post("/api/projects", {"name": "Mine"}, user.headers).json()["id"]
        path, headers = f"/api/projects/{project}/prompts", {**user.headers, "Idempotency-Key": "once"}
        with ThreadPoolExecutor(1) as threads, row_held(engine, "projects", user, project) as wait:
            pending = threads.submit(web.post, path, PROMPT, headers)
            until(lambda: _waits(rows), "the request, which has claimed its key and waits for the project")
            [worker] = web.workers()
            worker.send_signal(signal.SIGKILL)
            with pytest.raises(urllib3.exceptions.ProtocolError):
                pending.result()
            wait(1)  # lets go of the project: the killed worker's statement goes on, and nobody takes its result
        until(lambda: worker.pid not in {each.pid for each in web.workers()} and web.workers(), "another worker")
        web.wait_until_ready()
        first, again = web.post(path, PROMPT, headers), web.post(path, PROMPT, headers)
        assert (first.status, first.headers.get("Idempotency-Replayed")) == (201, None)
        assert (again.status, again.headers.get("Idempotency-Replayed")) == (201, "true")
        assert again.data == first.data
        assert len(rows("SELECT 1 FROM prompts WHERE user_id = :u", u=user.id)) == 1


def _waits(rows: Callable[..., list[Any]]) -> list[Any]:
    return rows(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE '%projects.lock%'"
    )


KILLS = 6
CLIENTS = 8  # two of them send each request


class Repeating:
    """Clients that send each request until it is answered, at a server whose workers are being killed."""

    def __init__(self, web: WebServer, user: Account) -> None:
        self._web, self._user = web, user
        self._over = threading.Event()
        self._pause = threading.Event()  # never set
        self.answered: dict[str, list[str]] = defaultdict(list)  # the ids that were told, by key
        self.unexpected: list[str] = []

    def __enter__(self) -> "Repeating":
        self._threads = [threading.Thread(target=self._run, args=(n // 2,), daemon=True) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def answers(self) -> int:
        return sum(map(len, list(self.answered.values())))

    def _run(self, pair: int) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self._send(f"{pair}-{number}")

    def _send(self, key: str) -> None:
        headers = {**self._user.headers, "Idempotency-Key": key}
        for _ in range(200):
            try:
                answer = self._web.post("/api/projects", {"name": key}, headers)
            except urllib3.exceptions.HTTPError:
                continue  # a worker died with it: whether it was done, nobody knows
            if answer.status == 201:
                self.answered[key].append(answer.json()["id"])
                return
            if answer.status not in (409, 429, 503):
                self.unexpected.append(f"{answer.status} {answer.data!r}")
                return
            self._pause.wait(int(answer.headers.get("Retry-After", 1)))
        self.unexpected.append(f"{key} was never answered")


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine is no fault
def test_whoever_is_killed_every_key_has_one_project(
    database_url: str, tmp_path: Path, user: Account, rows: Callable[..., list[Any]]
) -> None:
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="2") as web:
        with Repeating(web, user) as clients:
            for kill in range(KILLS):
                before = clients.answers()
                until(lambda before=before: clients.answers() > before + 3 * CLIENTS, f"answers after kill {kill}")
                web.workers()[0].send_signal(signal.SIGKILL)
        assert clients.unexpected == []
    made = {row.name: str(row.id) for row in rows("SELECT name, id FROM projects WHERE user_id = :u", u=user.id)}
    assert len(made) == len(rows("SELECT 1 FROM projects WHERE user_id = :u", u=user.id))
    assert {key: set(ids) for key, ids in clients.answered.items()} == {key: {made[key]} for key in made}
    assert rows("SELECT 1 FROM idempotency_keys WHERE user_id = :u AND status IS NULL", u=user.id) == []
