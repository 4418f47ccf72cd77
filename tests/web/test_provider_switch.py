"""The provider is switched from the command line while several web workers run: each follows, and none restarts."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import orjson
import pytest
from flask import Flask

from ops import providers
from ops.actors import Actor
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.rig import until
from tests.web.server import ROOT, WebServer

pytestmark = pytest.mark.process

WORKERS = 3
CONNECTIONS = 200  # at most, to meet each worker


@pytest.fixture
def web(flask_app: Flask, database_url: str, tmp_path: Path) -> Iterator[WebServer]:
    with Upstream(scripts.words(1)) as upstream:
        own = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url}
        other = {"OPENROUTER_API_KEY": "sk-router", "OPENROUTER_BASE_URL": upstream.base_url}
        with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS=str(WORKERS), **own, **other) as web:
            until(lambda: len(web.workers()) == WORKERS, "all workers")
            yield web


@contextmanager
def one_of_each(web: WebServer) -> Iterator[list[HTTPConnection]]:
    """A connection to each of the workers; they are closed when idle for some seconds."""
    port, found = int(web.url.rpartition(":")[2]), dict[int, HTTPConnection]()
    with ExitStack() as wires:
        for _ in range(CONNECTIONS):
            wire = wires.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=60)))
            wire.request("GET", "/health/live")
            wire.getresponse().read()
            ours = wire.sock.getsockname()[1]
            for worker in web.workers():
                if any(each.raddr and each.raddr.port == ours for each in worker.net_connections("tcp4")):
                    found.setdefault(worker.pid, wire)
            if len(found) == WORKERS:
                break
        assert len(found) == WORKERS, f"only {len(found)} workers took one of {CONNECTIONS} connections"
        yield list(found.values())


def answered_by(wire: HTTPConnection, user: Account) -> str:
    headers = {**user.headers, "Content-Type": "application/json"}
    wire.request("POST", "/api/chat", orjson.dumps({"message": "hello"}), headers)
    response = wire.getresponse()
    body = orjson.loads(response.read())
    assert response.status == 200, body
    return str(body["turn"]["provider"])


def all_follow(web: WebServer, user: Account, provider: str) -> None:
    with one_of_each(web) as wires:
        for wire in wires:
            until(lambda wire=wire: answered_by(wire, user) == provider, f"{provider}, asked of each worker")
        assert [answered_by(wire, user) for wire in wires] == [provider] * WORKERS  # and none goes back


def test_every_worker_follows(web: WebServer, flask_app: Flask, user: Account) -> None:
    workers = {worker.pid for worker in web.workers()}
    all_follow(web, user, "compatible")
    switched = subprocess.run(
        [sys.executable, "-m", "flask", "ops", "provider", "use", "openrouter", "--yes"],
        cwd=ROOT,
        env={**web.environment, "FLASK_APP": "wsgi.py"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert switched.returncode == 0, switched.stderr
    all_follow(web, user, "openrouter")
    with flask_app.app_context():
        providers.reset_provider(by=Actor(kind="command", name="test"))
    all_follow(web, user, "compatible")
    assert {worker.pid for worker in web.workers()} == workers
