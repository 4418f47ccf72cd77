"""A worker is killed while it creates something: the same request, sent again, creates it once."""

import signal
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
