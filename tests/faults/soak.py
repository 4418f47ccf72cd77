"""Measure the memory of every process under a steady load: `make soak`.

    python -m tests.faults.soak [--seconds N] [--clients N] [--seed N]

No faults are injected. Samples begin after a warm-up. The exit code is 1 if a process leaks: it grew by more than
MAX_GROWTH and by more than MAX_GROWTH_PER_TURN, or has more than MAX_NEW_FILES more open files. Speed is not judged.
"""

import argparse
import secrets
import statistics
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.factories import insert_user
from tests.faults.live_server import MAX_WAIT_SECONDS
from tests.faults.load import ChatClient
from tests.faults.testbed import Testbed, running_testbed
from tests.settings import default_settings

INTERVAL = 2.0  # seconds between two samples
WARM_UP = 0.25  # of the time: pools fill, modules are loaded, the allocator reaches its size
MAX_GROWTH = 16 * 2**20  # bytes
MAX_GROWTH_PER_TURN = 1024  # bytes
MAX_NEW_FILES = 50
CONVERSATIONS = 40  # of each client, so that long conversations do not explain the growth


@dataclass
class Samples:
    """Samples of one process: bytes of memory, open files, and the number of turns at that time."""

    role: str
    bytes: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def add(self, process: psutil.Process, turns: int) -> None:
        """Take a sample after `turns` turns."""
        with process.oneshot():
            self.bytes.append(process.memory_info().rss)
            self.files.append(process.num_fds())
        self.turns.append(turns)

    @property
    def growth(self) -> float:
        """Growth in bytes from the first to the last fifth, each by its median."""
        return _growth(self.bytes)

    @property
    def growth_per_turn(self) -> float:
        """Growth in bytes per turn: the slope of the regression line through all samples."""
        if len(set(self.turns)) < 2:
            return 0.0
        return statistics.linear_regression(self.turns, self.bytes).slope

    @property
    def leaks(self) -> bool:
        """Whether memory or the number of open files grew by more than is allowed."""
        more_memory = self.growth > MAX_GROWTH and self.growth_per_turn > MAX_GROWTH_PER_TURN
        return more_memory or _growth(self.files) > MAX_NEW_FILES


def _growth(values: Sequence[int]) -> float:
    fifth = max(1, len(values) // 5)
    return statistics.median(values[-fifth:]) - statistics.median(values[:fifth])


def processes(testbed: Testbed) -> dict[int, tuple[str, psutil.Process]]:
    """Return role and process of everything that runs, by process id."""
    running = [(f"{web.log_path.stem} worker", worker) for web in testbed.web_servers for worker in web.workers()]
    running += [(f"{web.log_path.stem} arbiter", web.arbiter) for web in testbed.web_servers]
    for kind, job in testbed.jobs.items():
        running.append((f"celery {kind}", psutil.Process(job.process.pid)))
        running += [("celery pool", child) for child in job.children()]
    return {process.pid: (role, process) for role, process in running}


def soak(
    testbed: Testbed, *, seconds: float, clients: int, seed: int, bar: Progress
) -> tuple[list[Samples], Counter[str]]:
    """Run `clients` for `seconds`; return the samples of each process and the counts of the clients."""
    stopping, count = threading.Event(), int(seconds / INTERVAL)
    chat_clients = [
        ChatClient(
            testbed.urls,
            insert_user(testbed.flask_app, testbed.engine),
            stopping,
            seed + n,
            max_conversations=CONVERSATIONS,
        )
        for n in range(clients)
    ]
    for client in chat_clients:
        client.start()
    watched = processes(testbed)
    samples = {pid: Samples(f"{role} {pid}") for pid, (role, _) in watched.items()}
    progress = bar.add_task("", total=count)
    for number in range(count):
        stopping.wait(INTERVAL)
        turns = sum(client.answered for client in chat_clients)
        bar.update(progress, advance=1, description=f"{turns} turns")
        if number >= count * WARM_UP:
            for pid, (_, process) in watched.items():
                samples[pid].add(process, turns)
    stopping.set()
    for client in chat_clients:
        client.join(2 * MAX_WAIT_SECONDS)
    totals = sum(
        (client.counts for client in chat_clients), Counter({"turns": sum(client.answered for client in chat_clients)})
    )
    totals["errors"] = sum(len(client.errors) for client in chat_clients)
    return list(samples.values()), totals


def show(samples: Sequence[Samples], totals: Counter[str], console: Console) -> None:
    """Print the samples as a table, then the totals."""
    table = Table("process", "first MB", "last MB", "largest MB", "growth MB", "bytes/turn", "open files", "")
    for process in samples:
        fifth = max(1, len(process.bytes) // 5)
        first, last = statistics.median(process.bytes[:fifth]), statistics.median(process.bytes[-fifth:])
        megabytes = [f"{value / 2**20:.1f}" for value in (first, last, max(process.bytes), process.growth)]
        files = f"{process.files[0]} to {process.files[-1]}"
        table.add_row(
            process.role, *megabytes, f"{process.growth_per_turn:.0f}", files, "leaks" if process.leaks else ""
        )
    console.print(table)
    console.print(", ".join(f"{name} {count}" for name, count in sorted(totals.items())))


def main(arguments: list[str]) -> int:
    """Run the load, print the samples and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak", description="Measure memory under a steady load."
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"SEED={options.seed} SECONDS={options.seconds:.0f}")
    columns = (TextColumn("{task.description:<14}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="parley-soak-") as folder,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        running_testbed(default_settings(), Path(folder), archiving=False) as testbed,
    ):
        samples, totals = soak(testbed, seconds=options.seconds, clients=options.clients, seed=options.seed, bar=bar)
    show(samples, totals, console)
    return 1 if any(process.leaks for process in samples) or totals["errors"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
