"""A server that is killed: the text that its readers elsewhere were shown is stored, and a retry replaces it."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
import urllib3
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from tests.event_source import TurnReader, parse
from tests.factories import LoggedInUser
from tests.faults.live_server import LiveServer
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def make_server(settings: Settings, flask_app: Flask, tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    made: list[LiveServer] = []

    def make(script: str) -> LiveServer:
        variables = {"CHAT_STALE_SECONDS": "3", "WEB_WORKERS": "1"}
        made.append(LiveServer(tmp_path, settings.database.url or "", name=f"web{len(made)}", **variables))
        made[-1].start_upstream(script)
        made[-1].start_web()
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_killed_server_keeps_the_text_that_others_read(
    make_server: Callable[[str], LiveServer], engine: Engine, user: LoggedInUser
) -> None:
    killed, other = make_server("words(400, pause=0.02)"), make_server("words(3)")
    headers = {**user.headers, "Idempotency-Key": "once"}
    own, follower = TurnReader(), TurnReader()
    started = threading.Event()

    def read_own() -> None:
        body = {"message": "hello", "stream": True}
        response = killed.http.request(
            "POST", f"{killed.url}/api/chat", json=body, headers=headers, preload_content=False
        )
        events = parse(response.stream())
        own.read(events, 1)
        started.set()
        with pytest.raises(urllib3.exceptions.HTTPError):  # the connection breaks
            own.read(events)

    def follow() -> None:
        assert started.wait(60)
        url = f"{other.url}/api/turns/{own.turn['id']}/events"
        response = other.http.request("GET", url, headers=user.headers, preload_content=False)
        for event in parse(response.stream()):
            if event.kind == "message.delta":
                shown.append(orjson.loads(event.data)["text"])
            elif event.kind == "turn.restarted":
                shown_before_restart.append("".join(shown))
                shown.clear()
            follower.read([event])

    shown: list[str] = []
    shown_before_restart: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read_own), threads.submit(follow)]
        wait_until(lambda: "word20 " in follower.text)
        for process in killed.workers():
            process.send_signal(signal.SIGKILL)
        killed.process.kill()
        for reader in readers:
            reader.result(60)
    with engine.connect() as connection:
        answer = connection.execute(
            text("SELECT content, metadata FROM messages WHERE user_id = :u AND role = 'assistant'"), {"u": user.id}
        ).one()
    assert answer.metadata == {"partial": "interrupted"}
    assert follower.end == "turn.interrupted"
    assert follower.text == answer.content
    assert answer.content.startswith("".join(shown_before_restart))
    assert own.text.startswith(answer.content)  # its last quarter of a second was not stored yet

    retried = other.http.request("POST", f"{other.url}/api/chat", json={"message": "hello"}, headers=headers)
    assert retried.status == 200
    assert retried.json()["message"]["content"] == "word0 word1 word2 "
