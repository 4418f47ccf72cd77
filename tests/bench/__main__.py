"""Run the benchmarks, print what came of them, and write it as JSON.

    python -m tests.bench [turns] [streams] [--streams 50,200,500] [--seconds 6] [--rounds 3] [--json FILE]

On a PostgreSQL of its own, with 2 web workers and a provider that answers at once, all on this machine: other things
that it does fall on every number, so what is compared is measured in turns, and the ratios are what can be trusted.
"""

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench import streams, turns
from tests.bench.bench import WORKERS, Place, place
from tests.bench.turns import median

PARTS = ("turns", "streams")
STORED, UNSTORED = "tests.bench.served:flask_app", "tests.bench.unstored:flask_app"
_console = Console()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--streams", default="50,200,500", help="how many at once, with commas")
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement of turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {"machine": _machine()}
    _console.print(found["machine"])
    with place() as here:
        if "turns" in (options.parts or PARTS):
            found["turns"] = _turns(here, options.rounds, options.seconds)
        if "streams" in (options.parts or PARTS):
            counts = tuple(int(count) for count in options.streams.split(","))
            found["streams"] = _streams(here, options.rounds, counts)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _machine() -> str:
    memory = round(psutil.virtual_memory().total / 2**30)
    return (
        f"{psutil.cpu_count()} processors, {memory} GiB, {platform.system()}, Python {platform.python_version()}, "
        f"{WORKERS} web workers; load average before: {psutil.getloadavg()[0]:.1f}"
    )


def _turns(here: Place, rounds: int, seconds: int) -> dict[str, Any]:
    accounts = here.accounts(4 * turns.CLIENTS)
    tokens = [account.access_token for account in accounts]
    found: dict[str, list[Any]] = {"bare": [], "http": [], "steady": [], "with logins": []}
    with here.server(pieces=5, pause=0, wsgi=STORED) as server:
        turns.over_http(server, tokens, 2)  # warm
        for _ in range(rounds):
            found["bare"].append(turns.bare(here, seconds))
            found["http"].append(turns.over_http(server, tokens, seconds))
            found["steady"].append(turns.steady(server, tokens, 40, seconds))
            found["with logins"].append(turns.beside_logins(server, accounts, seconds))
    table = Table("", "turns/s", "p50 ms", "p95 ms", "p99 ms", title=f"Turns (medians of {rounds})")
    bare = found["bare"]
    table.add_row(
        "pgbench: the two statements, prepared",
        f"{median([one.per_second for one in bare]):.0f}",
        f"begin {median([one.begin for one in bare]):.2f}",
        f"finish {median([one.finish for one in bare]):.2f}",
        "(means)",
    )
    for name in ("http", "steady", "with logins"):
        columns = [
            median([getattr(one, field) for one in found[name]]) for field in ("per_second", "p50", "p95", "p99")
        ]
        table.add_row(name, *(f"{value:.1f}" for value in columns))
    _console.print(table)
    pairs = list(zip(found["bare"], found["http"], found["steady"], found["with logins"], strict=True))
    ratios = {
        "turns/s over HTTP to pgbench's": median([http.per_second / bare.per_second for bare, http, _, _ in pairs]),
        "p99 to p50 at 40 turns/s": median([calm.p99 / calm.p50 for _, _, calm, _ in pairs]),
        "p99 with logins to p99 without": median([busy.p99 / http.p99 for _, http, _, busy in pairs]),
    }
    for name, ratio in ratios.items():
        _console.print(f"  {name}: {ratio:.2f}")
    return {name: [dataclasses.asdict(one) for one in each] for name, each in found.items()} | {"ratios": ratios}


def _streams(here: Place, rounds: int, counts: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, list[list[streams.Streams]]] = {"stored": [], "not stored": []}
    for _ in range(rounds):
        found["stored"].append(streams.run(here, counts, wsgi=STORED))
        found["not stored"].append(streams.run(here, counts, wsgi=UNSTORED))
    table = Table(
        *("events", "streams", "completed", "first p50 ms", "first p99 ms", "CPU us/piece", "MB/worker", "connections"),
        title=f"Streams of {streams.PIECES} pieces in {streams.PIECES * streams.PAUSE:g} s (medians of {rounds})",
    )
    for name, each in found.items():
        for place_, count in enumerate(counts):
            ones = [loads[place_] for loads in each]
            table.add_row(
                name,
                str(count),
                str(min(one.completed for one in ones)),
                f"{median([one.first_p50 for one in ones]):.0f}",
                f"{median([one.first_p99 for one in ones]):.0f}",
                f"{median([one.cpu_per_piece for one in ones]):.0f}",
                f"{max(one.memory for one in ones) / 1e6:.0f}",
                str(max(one.held for one in ones)),
            )
    _console.print(table)
    ratios = {
        str(count): median(
            [
                stored[at].cpu_per_piece / unstored[at].cpu_per_piece
                for stored, unstored in zip(found["stored"], found["not stored"], strict=True)
            ]
        )
        for at, count in enumerate(counts)
    }
    for streams_, ratio in ratios.items():
        _console.print(f"  CPU with events stored to without, {streams_} streams: {ratio:.2f}")
    asdict = dataclasses.asdict
    return {name: [[asdict(one) for one in loads] for loads in each] for name, each in found.items()} | {
        "ratios": ratios
    }


if __name__ == "__main__":
    main()
