"""What is measured together, shown together, and kept as JSON together."""

import dataclasses
from typing import Any

from tests.bench import streams, turns
from tests.bench.bench import Place
from tests.bench.pgbench import CLIENTS
from tests.bench.report import Measured, median, show
from tests.bench.statements import Tables

STORED, UNSTORED = "tests.bench.served:flask_app", "tests.bench.unstored:flask_app"
SIZES = (100_000, 1_000_000)  # messages


def of_turns(here: Place, rounds: int, seconds: int) -> dict[str, Any]:
    """Whole turns over HTTP beside their statements alone, steadily, and beside logins."""
    accounts = here.accounts(4 * CLIENTS)
    tokens = [account.access_token for account in accounts]
    bare: list[turns.Bare] = []
    found: dict[str, list[turns.Turns]] = {name: [] for name in ("http", "DB_PREPARE=false", "steady", "with logins")}
    turns.bare(here, 2)
    here.analyze()  # what is prepared is planned for the tables as they are known to be, and not anew as they grow
    usual = here.server(pieces=5, pause=0, wsgi=STORED)
    with usual as server, here.server(pieces=5, pause=0, wsgi=STORED, DB_PREPARE="false") as planning:
        for each in (server, planning):
            turns.over_http(each, tokens, 2)  # warm
        for _ in range(rounds):
            bare.append(turns.bare(here, seconds))
            found["http"].append(turns.over_http(server, tokens, seconds))
            found["DB_PREPARE=false"].append(turns.over_http(planning, tokens, seconds))
            found["steady"].append(turns.steady(server, tokens, 40, seconds))
            found["with logins"].append(turns.beside_logins(server, accounts, seconds))
    means = [f"{name} {median([getattr(one, name) for one in bare]):.2f}" for name in ("begin", "finish")]
    rows = [["pgbench: the two statements, prepared", f"{median([one.per_second for one in bare]):.0f}", *means, ""]]
    for name, each in found.items():
        columns = [median([getattr(one, field) for one in each]) for field in ("per_second", "p50", "p95", "p99")]
        rows.append([name, *(f"{value:.1f}" for value in columns)])

    def share(name: str) -> float:
        return median([each.per_second / alone.per_second for each, alone in zip(found[name], bare, strict=True)])

    busy = zip(found["with logins"], found["http"], strict=True)
    measured = [
        Measured("turns/s over HTTP to pgbench's", share("http"), "at least 0.15"),
        Measured("the same with DB_PREPARE=false", share("DB_PREPARE=false"), "at least 0.15"),
        Measured("p99 to p50 at 40 turns/s", median([one.p99 / one.p50 for one in found["steady"]]), "at most 3"),
        Measured("p99 with logins to p99 without", median([one.p99 / calm.p99 for one, calm in busy]), "at most 3"),
    ]
    columns = ["", "turns/s", "p50 ms", "p95 ms", "p99 ms"]
    show(f"Turns, {CLIENTS} callers (medians of {rounds}; of pgbench means)", columns, rows, measured)
    return _kept({"pgbench": bare, **found}, measured)


def of_statements(here: Place, rounds: int, seconds: int) -> dict[str, Any]:
    """The two statements on tables that grow, and the last messages beside another way to index them."""
    tables = Tables(here)
    found: dict[int, list[Any]] = {}
    for size in SIZES:
        tables.grow(size)
        found[size] = [tables.latency(seconds) for _ in range(rounds)]
    tables.build_by_column()
    last = [tables.compare(seconds) for _ in range(rounds)]
    p95 = {
        size: {name: median([getattr(one, name) for one in each]) for name in ("begin", "finish")}
        for size, each in found.items()
    }
    small, large = (p95[size] for size in SIZES)
    measured = [
        *(Measured(f"{name}, p95 in ms with 1M messages", large[name], "at most 3") for name in large),
        *(Measured(f"{name}, that to p95 with 100k", large[name] / small[name], "at most 1.2") for name in large),
        Measured(
            "last 20, to an index for each column", median([ours / theirs for ours, theirs in last]), "at least 3"
        ),
    ]
    rows = [[f"{size:,}", *(f"{value:.2f}" for value in p95[size].values())] for size in SIZES]
    title = f"The statements of a turn, prepared, {CLIENTS} clients (medians of {rounds})"
    show(title, ["messages", "begin p95 ms", "finish p95 ms"], rows, measured)
    return _kept({**{str(size): each for size, each in found.items()}}, measured) | {"last 20 each second": last}


def of_streams(here: Place, rounds: int, counts: tuple[int, ...]) -> dict[str, Any]:
    """Many streams at once; with what they say stored, and for one of the counts without."""
    found: dict[str, list[streams.Streams]] = {"stored": [], "not stored": []}
    some = counts[len(counts) // 2]
    for _ in range(rounds):
        found["stored"] += streams.run(here, counts, wsgi=STORED)
        found["not stored"] += streams.run(here, (some,), wsgi=UNSTORED)
    rows, measured = [], []
    for name, each in found.items():
        for count in dict.fromkeys(one.streams for one in each):
            ones = [one for one in each if one.streams == count]
            completed, memory = min(one.completed for one in ones), max(one.memory for one in ones) / 1e6
            held, p99 = max(one.held for one in ones), median([one.first_p99 for one in ones])
            p50, each_piece = (median([getattr(one, of) for one in ones]) for of in ("first_p50", "cpu_per_piece"))
            numbers = [count, completed, f"{p50:.0f}", f"{p99:.0f}", f"{each_piece:.0f}", f"{memory:.0f}", held]
            rows.append([name, *map(str, numbers)])
            if (name, count) == ("stored", max(counts)):
                measured = [
                    Measured(f"{count} streams: completed", completed, "all"),
                    Measured(f"{count} streams: first piece p99 in ms", p99, "at most 50 with 500, 1000 with 1000"),
                    Measured(f"{count} streams: MB of the largest worker", memory, "at most 120"),
                    Measured(f"{count} streams: connections held while they wait", held, "0"),
                ]
    cpu_of = {name: median([one.cpu_per_piece for one in each if one.streams == some]) for name, each in found.items()}
    measured.append(
        Measured(f"{some} streams: CPU with events stored to without", cpu_of["stored"] / cpu_of["not stored"])
    )
    columns = ["events", "streams", "completed", "first p50 ms", "first p99 ms", "CPU us/piece", "MB/worker", "held"]
    lasting = streams.PIECES * streams.PAUSE
    show(f"Streams of {streams.PIECES} pieces in {lasting:g} s (medians of {rounds})", columns, rows, measured)
    return _kept(found, measured)


def _kept(found: dict[str, list[Any]], measured: list[Measured]) -> dict[str, Any]:
    return {
        **{name: [dataclasses.asdict(one) for one in each] for name, each in found.items()},
        "measured": [dataclasses.asdict(one) for one in measured],
    }
