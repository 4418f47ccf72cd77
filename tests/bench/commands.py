"""CPU of `flask` commands that only read, compared with `flask --version`."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.environment import Environment
from tests.bench.report import Measured, median, show
from tests.faults.live_server import PROJECT

RUNS = 7
FLASK = Path(sys.executable).with_name("flask")
BASELINE = ("--version",)
COMMANDS = tuple(
    ("ops", *line.split())
    for line in """
--help
pool
locks
slow
audit
jobs list
jobs history
archive status
archive hold list
provider list
user --help
user list
user erasures
""".strip().splitlines()
)


def measure_commands(environment: Environment) -> dict[str, Any]:
    """Measure the CPU seconds of commands, each next to `flask --version`, and print their medians and ratios."""
    variables = {**os.environ, "DATABASE_URL": environment.database_url, "JWT_SECRET_KEY": "x" * 32}
    # As for a user: the modules of Parley are compiled once, not by each run.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    for command in COMMANDS:
        _cpu_seconds(command, variables)
    baselines: list[float] = []
    seconds: dict[tuple[str, ...], list[float]] = {command: [] for command in COMMANDS}
    ratios: dict[tuple[str, ...], list[float]] = {command: [] for command in COMMANDS}
    for _ in range(RUNS):
        for command in COMMANDS:
            baselines.append(_cpu_seconds(BASELINE, variables))
            seconds[command].append(_cpu_seconds(command, variables))
            ratios[command].append(seconds[command][-1] / baselines[-1])
    medians = {BASELINE: median(baselines), **{command: median(measured) for command, measured in seconds.items()}}
    rows = [[f"flask {' '.join(command)}", f"{value:.2f}"] for command, value in medians.items()]
    goals = [
        Measured(f"CPU of flask {' '.join(command)} to flask --version", median(measured), "at most 2.5")
        for command, measured in ratios.items()
    ]
    show(f"CPU of commands (medians of {RUNS} runs)", ["command", "CPU seconds"], rows, goals)
    return {"seconds": {" ".join(command): value for command, value in medians.items()}}


def _cpu_seconds(command: tuple[str, ...], variables: dict[str, str]) -> float:
    """Return the user and system time of one run of the installed `flask`, including its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([FLASK, *command], cwd=PROJECT, env=variables, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
