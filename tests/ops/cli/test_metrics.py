"""`flask ops metrics` with a server: values, charts, and errors."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from app.metrics.db import DB_QUERY_DURATION
from app.metrics.http import HTTP_REQUEST_DURATION
from app.metrics.jobs import BEAT_LAST_TICK_TIMESTAMP
from app.metrics.parsing import parse_samples
from ops.catalogue.promql import name_of, series
from ops.cli.entry_points import ops
from ops.cli.metrics import BLOCKS, chart
from ops.stats.scrape import Scrape, Scraper
from ops.stats.signals import Signal, quantile, signals
from tests.faults.live_server import PROJECT
from tests.processes import reaped
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

TOKEN = "ops-token-0123456789abcdef"
SHORT = ("--seconds", "0.4", "--interval", "0.2")


@pytest.fixture(scope="module")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """Start a server whose metrics need a token."""
    folder = tmp_path_factory.mktemp("metrics")
    with WebServer(folder, DATABASE_URL=database_url, OPS_TOKEN=TOKEN, WEB_WORKERS="2", DB_POOL_SIZE="3") as server:
        yield server


def run(*arguments: str, token: str | None = TOKEN, home: Path | None = None) -> Result:
    environment = {"OPS_TOKEN": token, "PARLEY_HOME": str(home or "/nowhere"), "PORT": "1"}
    return CliRunner().invoke(ops, ["metrics", *arguments], env=environment)


def by_name(found: tuple[Signal, ...]) -> dict[str, Signal]:
    return {signal.name: signal for signal in found}


def scrape_of(text: str, clock: float, timestamp: float = 1_000.0) -> Scrape:
    return Scrape(clock=clock, timestamp=timestamp, samples=parse_samples(text))


def test_signals_count_the_requests_between_scrapes_without_the_scrapes(server: WebServer) -> None:
    scraper = Scraper(server.url, TOKEN)
    first = scraper.scrape()
    for _ in range(12):
        body = {"email": "unknown@example.org", "password": "a wrong password"}
        assert server.http.request("POST", f"{server.url}/api/auth/login", json=body).status == 401

    def count() -> float:
        last = scraper.scrape()
        value = by_name(signals([first, last]))["requests"].value
        assert value is not None
        return value * (last.clock - first.clock)

    wait_until(lambda: round(count()) == 12)  # a request is counted after its response
    found = by_name(signals([first, scraper.scrape()]))
    assert found["server errors"].value == 0
    for name in ("request p95", "statement p95"):
        assert found[name].value is not None, name
    assert found["fullest pool"].maximum == 3 + 20
    assert found["running turns"].value == 0
    assert found["beat age"].value is None  # no worker has run


def test_report_as_json(server: WebServer) -> None:
    result = run(*SHORT, "--url", server.url, "--json")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout)
    report = document["report"]
    assert (document["schema"], document["command"], document["level"]) == ("parley.ops/2", "metrics", "ok")
    assert (report["url"], report["scrapes"], report["failed"]) == (server.url, 3, 0)
    found = {signal["name"]: signal for signal in report["signals"]}
    assert found["requests"]["points"] == [0.0, 0.0]
    assert found["request p95"]["value"] is None
    assert len(found["fullest pool"]["points"]) == 3


def test_report_in_a_pipe_has_numbers_only(server: WebServer) -> None:
    result = run(*SHORT, "--url", server.url)
    assert result.exit_code == 0, result.output
    assert not set(BLOCKS) & set(result.output)
    assert "fullest pool" in result.output
    assert " of 23" in result.output


@pytest.mark.parametrize(("terminal", "drawn"), [("xterm", True), ("dumb", False)])
def test_report_on_a_terminal_has_charts_if_it_can_show_them(server: WebServer, terminal: str, drawn: bool) -> None:
    leader, follower = os.openpty()
    environment = {**os.environ, "TERM": terminal, "OPS_TOKEN": TOKEN, "PYTHONIOENCODING": "utf-8"}
    command = [str(Path(sys.executable).parent / "flask"), "ops", "metrics", *SHORT, "--url", server.url]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=follower, stderr=follower)
    os.close(follower)
    output = b""
    with reaped(process), os.fdopen(leader, "rb", buffering=0) as terminal_output:
        while True:
            try:
                output += terminal_output.read(65_536)
            except OSError:  # the process has ended
                break
    assert "statement p95" in output.decode()
    assert bool(set(BLOCKS) & set(output.decode())) is drawn


def test_server_of_make_up_is_found(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "web.url").write_text(server.url)
    result = run(*SHORT, "--json", home=tmp_path)
    assert (result.exit_code, orjson.loads(result.stdout)["report"]["url"]) == (0, server.url)


def test_wrong_or_missing_token_is_named_and_not_shown(server: WebServer) -> None:
    for token in ("another-token-0123456789", None):
        result = run("--url", server.url, token=token)
        assert result.exit_code == 3
        assert "refused the token" in result.stderr
        assert "OPS_TOKEN" in result.stderr
        assert "another-token" not in result.output


def test_missing_server_is_named() -> None:
    result = run()
    assert result.exit_code == 3
    assert "No response from http://127.0.0.1:1 (connection refused)" in result.stderr
    assert "make up" in result.stderr


def test_address_without_metrics_is_named(server: WebServer) -> None:
    result = run("--url", f"{server.url}/api")
    assert result.exit_code == 3
    assert "has no metrics of Parley (status 404)" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--url", url) for url in ("127.0.0.1:8000", "ftp://x", "http://", "http://[::1", "http://x:y", "http://a:b@c")),
        ("--seconds", "nan"),
        ("--seconds", "1", "--interval", "2"),
        ("--seconds", "3600", "--interval", "1"),
    ],
)  # fmt: skip
def test_wrong_options_are_usage_errors(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 64


def test_counts_that_begin_again_are_not_negative() -> None:
    name = series(HTTP_REQUEST_DURATION, "_count", route="/", status_class="2xx")
    counts = (100, 110, 4, 10)
    found = by_name(signals([scrape_of(f"{name} {count}\n", 2.0 * n) for n, count in enumerate(counts)]))
    assert found["requests"].points == (5.0, 2.0, 3.0)
    assert found["requests"].value == 20 / 6


def test_missing_and_zero_values_are_no_data() -> None:
    text = f"{name_of(BEAT_LAST_TICK_TIMESTAMP)} 0\n"
    found = by_name(signals([scrape_of(text, 0), scrape_of(text, 1)]))
    assert {name for name, signal in found.items() if signal.value is not None} == set()
    text = f"{name_of(BEAT_LAST_TICK_TIMESTAMP)} 970\n"
    assert by_name(signals([scrape_of(text, 0), scrape_of(text, 1)]))["beat age"].value == 30


def test_statement_p95_is_that_of_the_interval() -> None:
    def text(low: int, high: int) -> str:
        bounds = {"0.1": low, "0.2": low + high, "+Inf": low + high}
        names = {le: series(DB_QUERY_DURATION, "_bucket", statement="x", outcome="ok", le=le) for le in bounds}
        return "".join(f"{names[le]} {count}\n" for le, count in bounds.items())

    found = by_name(signals([scrape_of(text(1000, 0), 0), scrape_of(text(1000, 10), 1)]))
    assert found["statement p95"].value == pytest.approx(0.195)


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({}, None),
        ({1.0: 0, math.inf: 0}, None),
        ({1.0: 100, math.inf: 100}, 0.95),
        ({1.0: 90, 2.0: 100, math.inf: 100}, 1.5),
        ({1.0: 10, math.inf: 100}, 1.0),
    ],
)
def test_quantile_is_interpolated(buckets: dict[float, float], expected: Any) -> None:
    assert quantile(0.95, buckets) == (expected if expected is None else pytest.approx(expected))


def test_chart_begins_at_zero_and_ends_at_the_maximum() -> None:
    def drawn(*points: float | None, maximum: float | None = None) -> str:
        return chart(Signal(name="x", unit="count", value=None, maximum=maximum, points=points))

    assert drawn(0, 4, 8) == "▁▅█"
    assert drawn(1, None, 1) == "█ █"
    assert drawn(0, 0) == "▁▁"
    assert drawn(4, maximum=8) == "▅"
    assert drawn() == ""
    assert len(drawn(*range(500))) == 60
