"""How benchmarks show what they found: a table of numbers, and the ratios beside what they are to reach."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.bench import WORKERS

console = Console()


@dataclass
class Measured:
    """One number that there is a goal for, if only to be looked at."""

    what: str
    value: float
    goal: str = ""


def machine() -> str:
    """What all of it was measured on."""
    memory = round(psutil.virtual_memory().total / 2**30)
    return (
        f"{psutil.cpu_count()} processors, {memory} GiB, {platform.system()}, Python {platform.python_version()}, "
        f"{WORKERS} web workers; load average before: {psutil.getloadavg()[0]:.1f}"
    )


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], measured: Sequence[Measured]) -> None:
    """A table, and below it what is compared."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    compared = Table("compared", "measured", "goal")
    for one in measured:
        compared.add_row(one.what, f"{one.value:.2f}", one.goal)
    console.print(compared)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
