"""CPU of a turn with and without metrics, in alternating measurements of one run."""

import asyncio
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from tests.bench.clients import chat_request, send_all
from tests.bench.environment import BenchServer, Environment
from tests.bench.pgbench import CLIENTS
from tests.bench.report import Measured, median, show
from tests.faults.live_server import postmaster

MEASURED, UNMEASURED = "tests.bench.production_app:flask_app", "tests.bench.unmeasured_app:flask_app"
TURNS = 100  # in one measurement
WARM_UP = 4  # measurements that do not count
MEASUREMENTS_PER_ROUND = 40
GOAL = "at most 1.03"


@dataclass(frozen=True, slots=True)
class TurnCost:
    """Milliseconds of CPU for a turn: of the web workers, and of PostgreSQL, which metrics do not use."""

    workers: float
    database: float


def measure_metrics(environment: Environment, rounds: int) -> dict[str, Any]:
    """Measure both servers in turn. Each ratio is that of two neighbours, so that other load changes both."""
    tokens = [account.access_token for account in environment.accounts(2 * CLIENTS)]
    with_metrics, without = list[TurnCost](), list[TurnCost]()
    with (
        environment.server(pieces=5, pause=0, wsgi=MEASURED) as measured,
        environment.server(pieces=5, pause=0, wsgi=UNMEASURED) as unmeasured,
    ):
        for number in range(WARM_UP + rounds * MEASUREMENTS_PER_ROUND):
            servers = [(measured, with_metrics), (unmeasured, without)]
            for server, results in servers if number % 2 else reversed(servers):
                cost = cost_per_turn(environment, server, tokens)
                if number >= WARM_UP:
                    results.append(cost)
        counts = [server.metrics().value("turns_total", status="completed") for server in (measured, unmeasured)]
        assert counts == [TURNS * (WARM_UP + len(without)), 0], counts
    ratios = [on.workers / off.workers for on, off in zip(with_metrics, without, strict=True)]
    added = [on.workers - off.workers for on, off in zip(with_metrics, without, strict=True)]
    whole = median([cost.workers + cost.database for cost in without])
    low, middle, high = statistics.quantiles(ratios, n=4)
    rows = [
        [name, *(f"{value:.3f}" for value in statistics.quantiles(values, n=4))]
        for name, values in (
            ("web workers with metrics", [cost.workers for cost in with_metrics]),
            ("web workers without", [cost.workers for cost in without]),
            ("difference of a pair", added),
            ("PostgreSQL", [cost.database for cost in without]),
        )
    ]
    goals = [
        Measured("CPU of a turn, PostgreSQL's included, with metrics to without", 1 + median(added) / whole, GOAL),
        Measured("CPU of the web workers with metrics to without, median of pairs", middle, GOAL),
        Measured("the same, lower quartile", low),
        Measured("the same, upper quartile", high),
        Measured("standard error of its mean", statistics.stdev(ratios) / len(ratios) ** 0.5),
    ]
    title = f"CPU of {TURNS} turns, {len(ratios)} pairs"
    show(title, ["", "lower quartile ms/turn", "median", "upper quartile"], rows, goals)
    return {
        "with metrics": [cost.workers for cost in with_metrics],
        "without": [cost.workers for cost in without],
        "PostgreSQL": [cost.database for cost in without],
        "ratios": ratios,
    }


def cost_per_turn(environment: Environment, server: BenchServer, tokens: Sequence[str]) -> TurnCost:
    """Send `TURNS` turns, `CLIENTS` at a time; return the CPU of one."""
    database = postmaster(environment.home)
    assert database is not None
    workers = server.arbiter.children()
    before = _cpu_seconds(workers), _cpu_seconds(database.children())
    asyncio.run(_send(server, tokens))
    after = _cpu_seconds(workers), _cpu_seconds(database.children())
    return TurnCost(*((end - begin) / TURNS * 1000 for begin, end in zip(before, after, strict=True)))


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU time of processes, in nanoseconds' precision: /proc has hundredths of a second (Linux)."""
    return sum(time.clock_gettime(~process.pid << 3 | 2) for process in processes)


async def _send(server: BenchServer, tokens: Sequence[str]) -> None:
    for begin in range(0, TURNS, CLIENTS):
        chosen = [tokens[(begin + number) % len(tokens)] for number in range(min(CLIENTS, TURNS - begin))]
        requests = [chat_request(token, server.port, stream=False) for token in chosen]
        statuses = {result.status for result in await send_all(server.port, requests, 0)}
        assert statuses == {b"200"}, statuses
