"""The output of benchmarks: a table of numbers, and a table of ratios with their goals."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.environment import WORKERS

console = Console()


@dataclass
class Measured:
    """One number with its goal; without a goal it is only shown."""

    name: str
    value: float
    goal: str = ""


def machine() -> str:
    """Describe the machine and its load."""
    memory = round(psutil.virtual_memory().total / 2**30)
    return (
        f"{psutil.cpu_count()} processors, {memory} GiB, {platform.system()}, Python {platform.python_version()}, "
        f"{WORKERS} web workers; load average before: {psutil.getloadavg()[0]:.1f}"
    )


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], measured: Sequence[Measured]) -> None:
    """Print the numbers, then the measured values with their goals."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    goals = Table("ratio or value", "measured", "goal")
    for value in measured:
        goals.add_row(value.name, f"{value.value:.2f}", value.goal)
    console.print(goals)


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
