"""Metrics of real web workers: a scrape of any worker covers all, and no counter goes back."""

from collections.abc import Iterator

import psutil
import pytest
from flask import Flask

from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import Scrape, parse
from tests.processes import is_alive
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("metrics-workers")]

COUNT = "http_request_duration_seconds_count"
WORKERS = 3


@pytest.fixture(scope="module")
def server(
    flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WebServer, Upstream]]:
    """Yield a web server with three workers, and its fake provider."""
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
    """Send requests that only need a worker, each on a new connection, so that all workers get some."""
    for _ in range(times):
        response = server.http.request("GET", f"{server.url}/nowhere", headers={"Connection": "close"})
        assert response.status == 404


def sent(server: WebServer) -> float:
    return scrape(server).value(COUNT, route="__other__", status_class="4xx")


def kill(worker: psutil.Process, server: WebServer) -> None:
    """Kill `worker` and wait for its replacement."""
    worker.kill()

    def replaced() -> bool:
        alive = [process for process in server.workers() if is_alive(process)]
        return worker not in alive and len(alive) == WORKERS

    wait_until(replaced)


def test_counters_stay_exact_when_workers_are_killed(server: tuple[WebServer, Upstream]) -> None:
    web, _ = server
    before = sent(web)
    send(web, 30)
    seen = [sent(web)]
    assert seen == [before + 30]
    for round_number in range(2):
        kill(web.workers()[round_number], web)
        seen.append(sent(web))
        send(web, 10)
        seen += [sent(web) for _ in range(5)]  # each may be answered by another worker
    assert seen == sorted(seen)
    assert seen[-1] == before + 50


def test_live_gauges_drop_with_a_killed_worker(server: tuple[WebServer, Upstream], user: LoggedInUser) -> None:
    web, upstream = server
    upstream.script = scripts.words(3, pause=60)
    headers = {**user.headers, "Accept": "text/event-stream"}
    reader = web.post("/api/chat", {"message": "hello"}, headers, preload_content=False)
    assert b"turn.started" in reader.read(200)
    seen = scrape(web)
    assert seen.value("turns_running") == 1
    assert seen.value("http_requests_in_flight") == 2  # with the scrape itself
    wait_until(lambda: scrape(web).value("db_pool_connections", state="used") == 0)  # not held by the stream
    busy = next(process for process in web.workers() if _is_connected_to(process, upstream.port))
    kill(busy, web)
    wait_until(lambda: scrape(web).value("db_pool_max") == WORKERS * 30)
    seen = scrape(web)
    assert seen.value("turns_running") == 0
    assert seen.value("http_requests_in_flight") == 1
    reader.close()


def test_disconnected_client_is_no_longer_in_flight(server: tuple[WebServer, Upstream], user: LoggedInUser) -> None:
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


def _is_connected_to(process: psutil.Process, port: int) -> bool:
    return any(it.raddr and it.raddr.port == port for it in process.net_connections("tcp"))
