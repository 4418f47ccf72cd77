"""SIGKILL of a web worker: between the store and the database, in an upload, and in a turn with files."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from ops.maintenance.file_texts import extract_texts
from ops.maintenance.files import FilePurgeReport, purge_files
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.files.test_purge import TWO_DAYS, age, names
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

Start = Callable[..., WebServer]


@pytest.fixture
def start(settings: Settings, tmp_path: Path, store: Path) -> Iterator[Start]:
    """Return a function that starts a server with one worker and the store."""
    servers: list[WebServer] = []

    def start(**variables: str) -> WebServer:
        home = tmp_path / f"home{len(servers)}"
        home.mkdir()
        values = {"FILES_URL": store.as_uri(), "WEB_WORKERS": "1", "AI_PROVIDER": "demo", "CHAT_STALE_SECONDS": "3"}
        server = WebServer(home, DATABASE_URL=settings.database.url or "", **{**values, **variables})
        servers.append(server)
        return server.__enter__()

    yield start
    for server in servers:
        server.close()


def kill_worker(server: WebServer) -> None:
    [worker] = server.workers()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(60)


def put(server: WebServer, user: LoggedInUser, content: Any, name: str = "a.txt") -> httpx.Response:
    url = f"{server.url}/api/files"
    return httpx.put(url, params={"name": name}, content=content, headers=user.headers, timeout=60)


def files(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM files")).scalar_one())


def purge(flask_app: Flask) -> FilePurgeReport:
    with flask_app.app_context():
        return purge_files()


def test_worker_killed_between_the_store_and_the_row_leaves_an_object_that_is_deleted(
    start: Start, store: Path, user: LoggedInUser, engine: Engine, flask_app: Flask
) -> None:
    server = start()
    with ThreadPoolExecutor(1) as threads, engine.connect() as other:
        other.execute(text("LOCK TABLE file_contents IN ACCESS EXCLUSIVE MODE"))  # the row has to wait
        upload = threads.submit(put, server, user, b"content")
        wait_until(lambda: any(not name.startswith(".") for name in names(store)))
        kill_worker(server)
        assert isinstance(upload.exception(60), httpx.TransportError)
        other.rollback()
    server.wait_for_health()
    assert (files(engine), len(names(store))) == (0, 1)
    assert put(server, user, b"content").status_code == 201
    assert purge(flask_app) == FilePurgeReport(0, 0, 0)  # the object may be of an upload that runs
    for path in store.iterdir():
        age(path, TWO_DAYS)
    assert purge(flask_app) == FilePurgeReport(0, 1, 1)
    assert (files(engine), len(names(store))) == (1, 1)


def test_worker_killed_in_an_upload_leaves_a_part_that_is_deleted(
    start: Start, store: Path, user: LoggedInUser, engine: Engine, flask_app: Flask
) -> None:
    server = start()

    def body() -> Iterator[bytes]:
        yield b"x" * 1_000_000
        wait_until(lambda: any(path.stat().st_size for path in store.iterdir()))
        kill_worker(server)
        yield b"x"

    with pytest.raises(httpx.TransportError):
        put(server, user, body())
    server.wait_for_health()
    [part] = names(store)
    assert part.endswith(".partial")
    assert (files(engine), purge(flask_app)) == (0, FilePurgeReport(0, 0, 0))
    age(store / part, TWO_DAYS)
    assert purge(flask_app) == FilePurgeReport(0, 0, 0, unfinished=1)
    assert names(store) == set()


def test_partial_answer_of_a_killed_turn_cites_its_files(
    start: Start, user: LoggedInUser, engine: Engine, flask_app: Flask
) -> None:
    with Upstream() as upstream:
        server = start(AI_PROVIDER="compatible", OPENAI_BASE_URL=upstream.base_url)
        file = put(server, user, b"The notice period is three months.", "contract.txt").json()
        with flask_app.app_context():
            assert extract_texts().ready == 1
        upstream.script = scripts.hang(2)
        body = {"message": "How long is the notice period?", "files": [file["id"]]}
        reader = server.post("/api/chat", body, {**user.headers, "Accept": "text/event-stream"}, preload_content=False)
        count = "SELECT count(*) FROM turn_events WHERE sequence > 1"

        def has_stored_deltas() -> bool:
            with engine.connect() as connection:
                return bool(connection.execute(text(count)).scalar_one())

        wait_until(has_stored_deltas)
        kill_worker(server)
        reader.close()
        server.wait_for_health()
        upstream.script = scripts.words(2)
        with engine.connect() as connection:
            conversation = connection.execute(text("SELECT id FROM conversations")).scalar_one()
        follow_up = {"message": "go on", "conversation_id": str(conversation)}
        wait_until(lambda: server.post("/api/chat", follow_up, user.headers).status == 200)
        url = f"{server.url}/api/conversations/{conversation}/messages"
        messages = httpx.get(url, headers=user.headers, timeout=60).json()["items"]
    [partial] = [message for message in messages if message["metadata"].get("partial")]
    [citation] = partial["metadata"]["citations"]
    assert (citation["file_id"], citation["passages"]) == (file["id"], [1])
