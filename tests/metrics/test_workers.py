"""Real web workers: one scrape tells of all of them, whichever answers, and no total ever goes back."""

from collections.abc import Callable, Iterator

import psutil
import pytest
from flask import Flask

from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import Scrape, parse
from tests.processes import is_alive
from tests.web.server import WebServer

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("metrics-workers")]

COUNT = "http_request_duration_seconds_count"
WORKERS = 3


@pytest.fixture(scope="module")
def server(
    flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WebServer, Upstream]]:
    """A web server of three workers, and who answers its chats."""
    with Upstream(scripts.words()) as upstream:
        provider = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url}
        home = tmp_path_factory.mktemp("web")
        with WebServer(home, DATABASE_URL=database_url, WEB_WORKERS=str(WORKERS), **provider) as server:
            yield server, upstream


def scrape(server: WebServer) -> Scrape:
    response = server.http.request("GET", f"{server.url}/metrics")
    assert response.status == 200
    return parse(response.data.decode())


def send(server: WebServer, times: int) -> None:
    """Requests that need nothing but a worker, each on a connection of its own, so that all workers get some."""
    for _ in range(times):
        response = server.http.request("GET", f"{server.url}/nowhere", headers={"Connection": "close"})
        assert response.status == 404


def sent(server: WebServer) -> float:
    return scrape(server).value(COUNT, route="__other__", status_class="4xx")


def kill(worker: psutil.Process, server: WebServer, wait_until: Callable[..., None]) -> None:
    """kill -9, and wait for the one that takes its place."""
    worker.kill()

    def replaced() -> bool:
        alive = [process for process in server.workers() if is_alive(process)]
        return worker not in alive and len(alive) == WORKERS

    wait_until(replaced, 60)


def test_totals_are_what_was_sent_though_workers_are_killed(
    server: tuple[WebServer, Upstream], wait_until: Callable[..., None]
) -> None:
    web, _ = server
    before = sent(web)
    send(web, 30)
    seen = [sent(web)]
    assert seen == [before + 30]
    for round_number in range(2):
        kill(web.workers()[round_number], web, wait_until)
        seen.append(sent(web))
        send(web, 10)
        seen += [sent(web) for _ in range(5)]  # asked of whichever worker
    assert seen == sorted(seen)
    assert seen[-1] == before + 50


def test_what_is_under_way_ends_with_the_worker(
    server: tuple[WebServer, Upstream], user: Account, wait_until: Callable[..., None]
) -> None:
    web, upstream = server
    upstream.script = scripts.words(3, pause=60)
    headers = {**user.headers, "Accept": "text/event-stream"}
    reader = web.post("/api/chat", {"message": "hello"}, headers, preload_content=False)
    assert b"turn.started" in reader.read(200)
    seen = scrape(web)
    assert seen.value("turns_running") == 1
    assert seen.value("http_requests_in_flight") == 2  # and the scrape itself
    assert seen.value("db_pool_connections", state="used") == 0
    busy = next(process for process in web.workers() if _talks_to(process, upstream.port))
    kill(busy, web, wait_until)
    wait_until(lambda: scrape(web).value("db_pool_max") == WORKERS * 30, 60)
    seen = scrape(web)
    assert seen.value("turns_running") == 0
    assert seen.value("http_requests_in_flight") == 1
    reader.close()


def test_a_reader_that_leaves_is_no_longer_in_flight(
    server: tuple[WebServer, Upstream], user: Account, wait_until: Callable[..., None]
) -> None:
    web, upstream = server
    upstream.script = scripts.words(40, pause=0.05)
    before = scrape(web)
    headers = {**user.headers, "Accept": "text/event-stream"}
    reader = web.post("/api/chat", {"message": "hello"}, headers, preload_content=False)
    assert b"turn.started" in reader.read(200)
    reader.close()
    wait_until(lambda: scrape(web).value("http_requests_in_flight") == 1)
    wait_until(lambda: scrape(web).value("turns_running") == 0)
    seen = scrape(web)
    chats = {"route": "/api/chat", "status_class": "2xx"}
    assert seen.value(COUNT, **chats) == before.value(COUNT, **chats) + 1
    assert seen.value("turns_total", status="completed") == before.value("turns_total", status="completed") + 1


def _talks_to(process: psutil.Process, port: int) -> bool:
    return any(it.raddr and it.raddr.port == port for it in process.net_connections("tcp"))
