"""Switching the provider on the command line: every web worker follows without a restart."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from flask import Flask

from ops.providers.choice import reset_provider
from ops.runs.actors import Actor
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.live_server import PROJECT
from tests.waiting import wait_until
from tests.web.chatting import chat_on
from tests.web.server import WebServer

pytestmark = pytest.mark.process

WORKERS = 3
MAX_CONNECTIONS = 200  # until each worker has accepted one


@pytest.fixture
def web(flask_app: Flask, database_url: str, tmp_path: Path) -> Iterator[WebServer]:
    with Upstream(scripts.words(1)) as upstream:
        configured = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url}
        openrouter = {"OPENROUTER_API_KEY": "sk-router", "OPENROUTER_BASE_URL": upstream.base_url}
        with WebServer(
            tmp_path, DATABASE_URL=database_url, WEB_WORKERS=str(WORKERS), **configured, **openrouter
        ) as web:
            wait_until(lambda: len(web.workers()) == WORKERS, "not all workers have started")
            yield web


@contextmanager
def connections_to_workers(web: WebServer) -> Iterator[list[HTTPConnection]]:
    """Open one connection to each worker. The server closes them after some idle seconds."""
    port, by_worker = int(web.url.rpartition(":")[2]), dict[int, HTTPConnection]()
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            connection = stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=60)))
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            local_port = connection.sock.getsockname()[1]
            for worker in web.workers():
                if any(peer.raddr and peer.raddr.port == local_port for peer in worker.net_connections("tcp4")):
                    by_worker.setdefault(worker.pid, connection)
            if len(by_worker) == WORKERS:
                break
        assert len(by_worker) == WORKERS, f"only {len(by_worker)} workers accepted one of {MAX_CONNECTIONS} connections"
        yield list(by_worker.values())


def chat_provider(connection: HTTPConnection, user: LoggedInUser) -> str:
    """Chat on a connection and return the provider that answered."""
    return str(chat_on(connection, user, "hello")["turn"]["provider"])


def wait_for_provider(web: WebServer, user: LoggedInUser, provider: str) -> None:
    """Wait until every worker uses `provider`, and check that none switches back."""
    with connections_to_workers(web) as connections:
        for connection in connections:
            wait_until(
                lambda connection=connection: chat_provider(connection, user) == provider,
                f"a worker does not use {provider}",
            )
        assert [chat_provider(connection, user) for connection in connections] == [provider] * WORKERS


def test_switched_provider_is_used_by_every_worker_without_restart(
    web: WebServer, flask_app: Flask, user: LoggedInUser
) -> None:
    workers = {worker.pid for worker in web.workers()}
    wait_for_provider(web, user, "compatible")
    switched = subprocess.run(
        [sys.executable, "-m", "flask", "ops", "provider", "use", "openrouter", "--yes"],
        cwd=PROJECT,
        env={**web.environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert switched.returncode == 0, switched.stderr
    wait_for_provider(web, user, "openrouter")
    with flask_app.app_context():
        reset_provider(by=Actor(kind="command", name="test"))
    wait_for_provider(web, user, "compatible")
    assert {worker.pid for worker in web.workers()} == workers
