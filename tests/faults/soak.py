"""The platform under a steady load, and what becomes of its memory: `make soak`.

    python -m tests.faults.soak [--seconds N] [--chatters N] [--seed N]

Nothing is hurt. What each process holds is measured after it has warmed up, and the exit code is 1 where one of them
clearly holds more and more: megabytes, and more with each turn. How fast anything was is not judged.
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

from tests.factories import make_account
from tests.faults.chatters import Chatter
from tests.faults.rig import SECONDS
from tests.faults.settings import defaults
from tests.faults.world import World, world

EVERY = 2.0  # seconds between two looks
WARM_UP = 0.25  # of the time: pools fill, code is loaded, the allocator finds its size
CLEAR_GROWTH = 16 * 2**20  # bytes, beyond which it counts if it also is
CLEARLY_BY_TURN = 1024  # bytes for each turn of the process
CLEARLY_MORE_FILES = 50
CONVERSATIONS = 40  # of one person: none becomes so long that it is the conversation which grows


@dataclass
class Samples:
    """What one process held, look by look: bytes and open files, and how many turns there had been."""

    role: str
    bytes: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def add(self, process: psutil.Process, turns: int) -> None:
        with process.oneshot():
            self.bytes.append(process.memory_info().rss)
            self.files.append(process.num_fds())
        self.turns.append(turns)

    @property
    def growth(self) -> float:
        """Bytes, from the first fifth to the last, each by its median."""
        return _grown(self.bytes)

    @property
    def by_turn(self) -> float:
        """Bytes for each turn: the slope of the straight line through all samples."""
        if len(set(self.turns)) < 2:
            return 0.0
        return statistics.linear_regression(self.turns, self.bytes).slope

    @property
    def clear(self) -> bool:
        """Whether it clearly holds more and more."""
        leaks = self.growth > CLEAR_GROWTH and self.by_turn > CLEARLY_BY_TURN
        return leaks or _grown(self.files) > CLEARLY_MORE_FILES


def _grown(values: Sequence[int]) -> float:
    fifth = max(1, len(values) // 5)
    return statistics.median(values[-fifth:]) - statistics.median(values[:fifth])


def processes(made: World) -> dict[int, tuple[str, psutil.Process]]:
    """What is to be watched, with what it is."""
    found = [(f"{web.log.stem} worker", worker) for web in made.webs for worker in web.workers()]
    found += [(f"{web.log.stem} arbiter", web.web) for web in made.webs]
    for kind, job in made.jobs.items():
        found.append((f"celery {kind}", psutil.Process(job.process.pid)))
        found += [("celery pool", child) for child in job.children()]
    return {process.pid: (role, process) for role, process in found}


def soak(made: World, *, seconds: float, chatters: int, seed: int, bar: Progress) -> tuple[list[Samples], Counter[str]]:
    """Let people chat for so long; what was measured after the warm-up, and what they did."""
    stopping, looks = threading.Event(), int(seconds / EVERY)
    people = [
        Chatter(
            made.urls, make_account(made.flask_app, made.engine), stopping, seed + n, most_conversations=CONVERSATIONS
        )
        for n in range(chatters)
    ]
    for person in people:
        person.start()
    watched = processes(made)
    samples = {pid: Samples(f"{role} {pid}") for pid, (role, _) in watched.items()}
    job = bar.add_task("", total=looks)
    for look in range(looks):
        stopping.wait(EVERY)
        turns = sum(person.answered for person in people)
        bar.update(job, advance=1, description=f"{turns} turns")
        if look >= looks * WARM_UP:
            for pid, (_, process) in watched.items():
                samples[pid].add(process, turns)
    stopping.set()
    for person in people:
        person.join(2 * SECONDS)
    done = sum((person.counts for person in people), Counter({"turns": sum(person.answered for person in people)}))
    done["wrong"] = sum(len(person.unexpected) for person in people)
    return list(samples.values()), done


def show(samples: Sequence[Samples], done: Counter[str], console: Console) -> None:
    table = Table("process", "MB at first", "at last", "most", "growth", "bytes a turn", "open files", "")
    for each in samples:
        fifth = max(1, len(each.bytes) // 5)
        first, last = statistics.median(each.bytes[:fifth]), statistics.median(each.bytes[-fifth:])
        megabytes = [f"{value / 2**20:.1f}" for value in (first, last, max(each.bytes), each.growth)]
        files = f"{each.files[0]} to {each.files[-1]}"
        table.add_row(each.role, *megabytes, f"{each.by_turn:.0f}", files, "grows" if each.clear else "")
    console.print(table)
    console.print(", ".join(f"{name} {count}" for name, count in sorted(done.items())))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description="A steady load, and its memory.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--chatters", type=int, default=12)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"SEED={options.seed} SECONDS={options.seconds:.0f}")
    columns = (TextColumn("{task.description:<14}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="parley-soak-") as folder,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        world(defaults(), Path(folder), archiving=False) as made,
    ):
        samples, done = soak(made, seconds=options.seconds, chatters=options.chatters, seed=options.seed, bar=bar)
    show(samples, done, console)
    return 1 if any(each.clear for each in samples) or done["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
