"""CPU of the web workers for a turn, with and without metrics, in alternating measurements of one run."""

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

from tests.bench.clients import chat_request, send_all
from tests.bench.environment import BenchServer, Environment, ResourceUsage
from tests.bench.pgbench import CLIENTS
from tests.bench.report import Measured, show

MEASURED, UNMEASURED = "tests.bench.production_app:flask_app", "tests.bench.unmeasured_app:flask_app"
TURNS = 200  # in one measurement
WARM_UP = 2  # measurements that do not count
MEASUREMENTS_PER_ROUND = 20


def measure_metrics(environment: Environment, rounds: int) -> dict[str, Any]:
    """Measure both servers in turn. Each ratio is that of two neighbours, so that other load changes both."""
    tokens = [account.access_token for account in environment.accounts(2 * CLIENTS)]
    with_metrics, without = [], []
    with (
        environment.server(pieces=5, pause=0, wsgi=MEASURED) as measured,
        environment.server(pieces=5, pause=0, wsgi=UNMEASURED) as unmeasured,
    ):
        for number in range(WARM_UP + rounds * MEASUREMENTS_PER_ROUND):
            servers = [(measured, with_metrics), (unmeasured, without)]
            for server, results in servers if number % 2 else reversed(servers):
                milliseconds = _cpu_per_turn(server, tokens)
                if number >= WARM_UP:
                    results.append(milliseconds)
        counts = [server.metrics().value("turns_total", status="completed") for server in (measured, unmeasured)]
        assert counts == [TURNS * (WARM_UP + len(without)), 0], counts
    ratios = [on / off for on, off in zip(with_metrics, without, strict=True)]
    low, middle, high = _quartiles(ratios)
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    rows = [
        [name, *(f"{value:.3f}" for value in _quartiles(values))]
        for name, values in (("with metrics", with_metrics), ("without", without))
    ]
    values = [
        Measured("CPU of a turn with metrics to without, mean of pairs", statistics.mean(ratios), "at most 1.03"),
        Measured("the same, median", middle, "at most 1.03"),
        Measured("the same, lower quartile", low),
        Measured("the same, upper quartile", high),
        Measured("standard error of the mean", error),
    ]
    title = f"CPU of {TURNS} turns, {len(ratios)} pairs"
    show(title, ["", "lower quartile ms/turn", "median", "upper quartile"], rows, values)
    return {"with metrics": with_metrics, "without": without, "ratios": ratios}


def _cpu_per_turn(server: BenchServer, tokens: Sequence[str]) -> float:
    """Send `TURNS` turns, `CLIENTS` at a time; return the milliseconds of CPU of the workers for each."""
    workers = server.arbiter.children()
    before = ResourceUsage.of(workers).cpu
    asyncio.run(_send(server, tokens))
    return (ResourceUsage.of(workers).cpu - before) / TURNS * 1000


async def _send(server: BenchServer, tokens: Sequence[str]) -> None:
    for begin in range(0, TURNS, CLIENTS):
        chosen = [tokens[(begin + number) % len(tokens)] for number in range(min(CLIENTS, TURNS - begin))]
        requests = [chat_request(token, server.port, stream=False) for token in chosen]
        statuses = {result.status for result in await send_all(server.port, requests, 0)}
        assert statuses == {b"200"}, statuses


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high
