"""Hundreds of faults under load, and what is left: `make faults`.

    python -m tests.faults [--seed N] [--kills N] [--chatters N]

The exit code is 1 where something is wrong; then the rows are shown. The logs are kept where there is something to see.
"""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.campaign import Figures, campaign
from tests.faults.settings import defaults
from tests.faults.world import world

MOST_SHOWN = 20  # rows of one kind


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Hurt the platform, and look at it.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--chatters", type=int, default=10)
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"SEED={options.seed} KILLS={options.kills}")
    folder = Path(tempfile.mkdtemp(prefix="parley-faults-logs-"))
    try:
        figures = hurt(options, folder, console)
    except AssertionError as error:
        console.print(f"It did not recover: {error}\nThe logs are in {folder}", markup=False)
        return 1
    show(figures, console)
    if figures.violations or figures.revived:
        console.print(f"The logs are in {folder}", markup=False)
    else:
        shutil.rmtree(folder)
    return 1 if figures.violations else 0


def hurt(options: argparse.Namespace, folder: Path, console: Console) -> Figures:
    """The campaign, with its progress on a terminal, or a line now and then."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        world(defaults(), folder) as made,
    ):
        job = bar.add_task("starting", total=options.kills)
        done = 0

        def tell(name: str) -> None:
            nonlocal done
            done += 1
            bar.update(job, advance=1, description=f"{name:<22}")
            if not console.is_terminal and done % 50 == 0:
                console.print(f"{done} of {options.kills}")

        return campaign(made, seed=options.seed, kills=options.kills, chatters=options.chatters, tell=tell)


def show(figures: Figures, console: Console) -> None:
    """The table, then what is wrong."""
    table = Table(show_header=False)
    for row in figures.rows():
        table.add_row(*row)
    console.print(table)
    for name, found in figures.violations.items():
        for line in found[:MOST_SHOWN]:
            console.print(f"{name}: {line}", markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
