"""Inject hundreds of faults under load and check the database afterwards: `make faults`.

    python -m tests.faults [--seed N] [--kills N] [--clients N]

Violations are printed and make the exit code 1. The logs are kept if there are violations or a process ended by itself.
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

from tests.faults.campaign import CampaignReport, run_campaign
from tests.faults.testbed import running_testbed
from tests.settings import default_settings

MAX_ROWS_SHOWN = 20  # of each violation


def main(arguments: list[str]) -> int:
    """Run a campaign, print its report and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Inject faults and check the database.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the faults and messages")
    parser.add_argument("--kills", type=int, default=300, help="number of faults")
    parser.add_argument("--clients", type=int, default=10, help="number of clients that chat")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"SEED={options.seed} KILLS={options.kills}")
    folder = Path(tempfile.mkdtemp(prefix="parley-faults-logs-"))
    try:
        report = run(options, folder, console)
    except AssertionError as error:
        console.print(f"The platform did not recover: {error}\nThe logs are in {folder}", markup=False)
        return 1
    show(report, console)
    if report.violations or report.restarted:
        console.print(f"The logs are in {folder}", markup=False)
    else:
        shutil.rmtree(folder)
    return 1 if report.violations else 0


def run(options: argparse.Namespace, folder: Path, console: Console) -> CampaignReport:
    """Run the campaign with a progress bar on a terminal; elsewhere print a line after every 50 faults."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        running_testbed(default_settings(), folder) as testbed,
    ):
        progress = bar.add_task("starting", total=options.kills)
        injected = 0

        def advance(name: str) -> None:
            nonlocal injected
            injected += 1
            bar.update(progress, advance=1, description=f"{name:<22}")
            if not console.is_terminal and injected % 50 == 0:
                console.print(f"{injected} of {options.kills}")

        return run_campaign(testbed, seed=options.seed, kills=options.kills, clients=options.clients, on_fault=advance)


def show(report: CampaignReport, console: Console) -> None:
    """Print the report as a table, then the first rows of each violation."""
    table = Table(show_header=False)
    for row in report.rows():
        table.add_row(*row)
    console.print(table)
    for name, violations in report.violations.items():
        for line in violations[:MAX_ROWS_SHOWN]:
            console.print(f"{name}: {line}", markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
