"""The parts of the benchmarks: each measures, prints its tables, and returns its numbers for the JSON file."""

import dataclasses
from typing import Any

from tests.bench import costly_bodies, streams, turns
from tests.bench.environment import Environment
from tests.bench.pgbench import CLIENTS
from tests.bench.report import Measured, median, show
from tests.bench.statements import Tables

STORED, UNSTORED = "tests.bench.production_app:flask_app", "tests.bench.unstored_events_app:flask_app"
SIZES = (100_000, 1_000_000)  # messages


def measure_turns(environment: Environment, rounds: int, seconds: int) -> dict[str, Any]:
    """Measure turns over HTTP next to their statements in pgbench, at a constant rate, and with logins."""
    accounts = environment.accounts(4 * CLIENTS)
    tokens = [account.access_token for account in accounts]
    bare: list[turns.PgbenchTurns] = []
    names = ("http", "DB_PREPARE=false", "steady", "with logins")
    measurements: dict[str, list[turns.HttpTurns]] = {name: [] for name in names}
    turns.measure_pgbench(environment, 2)
    environment.analyze()  # now, so that prepared plans fit the tables and are not replaced while these grow
    default = environment.server(pieces=5, pause=0, wsgi=STORED)
    with default as server, environment.server(pieces=5, pause=0, wsgi=STORED, DB_PREPARE="false") as unprepared:
        for warming in (server, unprepared):
            turns.measure_http(warming, tokens, 2)
        for _ in range(rounds):
            bare.append(turns.measure_pgbench(environment, seconds))
            measurements["http"].append(turns.measure_http(server, tokens, seconds))
            measurements["DB_PREPARE=false"].append(turns.measure_http(unprepared, tokens, seconds))
            measurements["steady"].append(turns.measure_steady(server, tokens, 40, seconds))
            measurements["with logins"].append(turns.measure_with_logins(server, accounts, seconds))
    means = [f"{name} {median([getattr(run, name) for run in bare]):.2f}" for name in ("begin", "finish")]
    rows = [["pgbench: the two statements, prepared", f"{median([run.per_second for run in bare]):.0f}", *means, ""]]
    for name, runs in measurements.items():
        columns = [median([getattr(run, field) for run in runs]) for field in ("per_second", "p50", "p95", "p99")]
        rows.append([name, *(f"{value:.1f}" for value in columns)])

    def share(name: str) -> float:
        pairs = zip(measurements[name], bare, strict=True)
        return median([run.per_second / pgbench.per_second for run, pgbench in pairs])

    logins = zip(measurements["with logins"], measurements["http"], strict=True)
    measured = [
        Measured("turns/s over HTTP to turns/s of pgbench", share("http"), "at least 0.15"),
        Measured("the same with DB_PREPARE=false", share("DB_PREPARE=false"), "at least 0.15"),
        Measured(
            "p99 to p50 at 40 turns/s", median([run.p99 / run.p50 for run in measurements["steady"]]), "at most 3"
        ),
        Measured("p99 with logins to p99 without", median([busy.p99 / idle.p99 for busy, idle in logins]), "at most 3"),
    ]
    headings = ["", "turns/s", "p50 ms", "p95 ms", "p99 ms"]
    show(f"Turns, {CLIENTS} clients (medians of {rounds} rounds; pgbench: means)", headings, rows, measured)
    return _as_json({"pgbench": bare, **measurements}, measured)


def measure_statements(environment: Environment, rounds: int, seconds: int) -> dict[str, Any]:
    """Measure the two statements on growing tables, and the last messages compared with one index per column."""
    tables = Tables(environment)
    measurements: dict[int, list[Any]] = {}
    for size in SIZES:
        tables.grow(size)
        measurements[size] = [tables.measure_latency(seconds) for _ in range(rounds)]
    tables.build_by_column()
    last_messages = [tables.compare_last_messages(seconds) for _ in range(rounds)]
    p95 = {
        size: {name: median([getattr(run, name) for run in runs]) for name in ("begin", "finish")}
        for size, runs in measurements.items()
    }
    small, large = (p95[size] for size in SIZES)
    speedup = median([parley / by_column for parley, by_column in last_messages])
    measured = [
        *(Measured(f"{name}, p95 in ms on 1M messages", large[name], "at most 3") for name in large),
        *(Measured(f"{name}, p95 on 1M to p95 on 100k", large[name] / small[name], "at most 1.2") for name in large),
        Measured("last 20 messages/s, to one index per column", speedup, "at least 3"),
    ]
    rows = [[f"{size:,}", *(f"{value:.2f}" for value in p95[size].values())] for size in SIZES]
    title = f"The statements of a turn, prepared, {CLIENTS} clients (medians of {rounds} rounds)"
    show(title, ["messages", "begin p95 ms", "finish p95 ms"], rows, measured)
    runs_by_size = {str(size): runs for size, runs in measurements.items()}
    return _as_json(runs_by_size, measured) | {"last 20 each second": last_messages}


def measure_streams(environment: Environment, rounds: int, counts: tuple[int, ...]) -> dict[str, Any]:
    """Measure each number of concurrent streams, and the middle one also without stored events."""
    measurements: dict[str, list[streams.Streams]] = {"stored": [], "not stored": []}
    middle = counts[len(counts) // 2]
    for _ in range(rounds):
        measurements["stored"] += streams.measure_streams(environment, counts, wsgi=STORED)
        measurements["not stored"] += streams.measure_streams(environment, (middle,), wsgi=UNSTORED)
    rows, measured = [], []
    for name, runs in measurements.items():
        for count in dict.fromkeys(run.streams for run in runs):
            row, values = _summarize_streams(count, [run for run in runs if run.streams == count])
            rows.append([name, *row])
            if (name, count) == ("stored", max(counts)):
                measured = values
    cpu = {
        name: median([run.cpu_per_delta for run in runs if run.streams == middle])
        for name, runs in measurements.items()
    }
    measured.append(Measured(f"{middle} streams: CPU with events stored to without", cpu["stored"] / cpu["not stored"]))
    headings = ["events", "streams", "completed", "first p50 ms", "first p99 ms", "CPU us/delta", "MB/worker", "held"]
    duration = streams.PIECES * streams.PAUSE
    show(f"Streams of {streams.PIECES} deltas in {duration:g} s (medians of {rounds})", headings, rows, measured)
    return _as_json(measurements, measured)


def measure_bodies(environment: Environment, rounds: int, seconds: int) -> dict[str, Any]:
    """Measure health checks without and with clients that send bodies which take long to refuse."""
    pairs = [costly_bodies.measure_health_checks(environment, seconds) for _ in range(rounds)]
    runs = {"alone": [pair[0] for pair in pairs], "with costly bodies": [pair[1] for pair in pairs]}
    ratio = median([busy.p99 / alone.p99 for alone, busy in pairs])
    measured = [Measured("p99 of /health/live with costly bodies to p99 alone", ratio, "at most 5")]
    rows = [
        [name, *(f"{median([getattr(run, field) for run in each]):.1f}" for field in ("p50", "p99", "requests"))]
        for name, each in runs.items()
    ]
    headings = ["", "p50 ms", "p99 ms", "costly requests"]
    show(f"Health checks beside three clients (medians of {rounds} rounds)", headings, rows, measured)
    return _as_json(runs, measured)


def _summarize_streams(count: int, runs: list[streams.Streams]) -> tuple[list[str], list[Measured]]:
    """Return the table row of `count` streams, and the values that have goals."""
    completed, memory = min(run.completed for run in runs), max(run.memory for run in runs) / 1e6
    held, p99 = max(run.held for run in runs), median([run.first_p99 for run in runs])
    p50, cpu = median([run.first_p50 for run in runs]), median([run.cpu_per_delta for run in runs])
    row = [str(count), str(completed), f"{p50:.0f}", f"{p99:.0f}", f"{cpu:.0f}", f"{memory:.0f}", str(held)]
    return row, [
        Measured(f"{count} streams: completed", completed, "all"),
        Measured(f"{count} streams: first delta p99 in ms", p99, "at most 50 with 500, 1000 with 1000"),
        Measured(f"{count} streams: MB of the largest worker", memory, "at most 120"),
        Measured(f"{count} streams: database connections held while they wait", held, "0"),
    ]


def _as_json(measurements: dict[str, list[Any]], measured: list[Measured]) -> dict[str, Any]:
    return {
        **{name: [dataclasses.asdict(run) for run in runs] for name, runs in measurements.items()},
        "measured": [dataclasses.asdict(value) for value in measured],
    }
