"""Run the benchmarks, print the results with their goals, and write them as JSON.

    python -m tests.bench [turns] [statements] [streams] [bodies] [metrics] [commands]
                          [--streams 50,200,500] [--seconds 4] [--rounds 2] [--json FILE]

Everything runs on this machine: a separate PostgreSQL, 2 web workers, a provider that answers at once, and the clients.
Other load on the machine changes every number, so compare the ratios, which are measured in alternating rounds. All
parts together take about six minutes on an idle machine.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.bench import parts
from tests.bench.commands import measure_commands
from tests.bench.environment import open_environment
from tests.bench.metrics_cost import measure_metrics
from tests.bench.report import console, machine

PARTS = ("turns", "statements", "streams", "bodies", "metrics", "commands")


def main(arguments: list[str] | None = None) -> None:
    """Run the requested parts."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one or more of {', '.join(PARTS)}; default: all")
    parser.add_argument("--streams", default="50,200,500", help="numbers of concurrent streams, separated by commas")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement of turns and statements")
    parser.add_argument("--rounds", type=int, default=2, help="number of repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the results")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    requested = options.parts or PARTS
    results: dict[str, Any] = {"machine": machine()}
    console.print(results["machine"])
    with open_environment() as environment:
        if "turns" in requested:
            results["turns"] = parts.measure_turns(environment, options.rounds, options.seconds)
        if "streams" in requested:
            counts = tuple(int(count) for count in options.streams.split(","))
            results["streams"] = parts.measure_streams(environment, options.rounds, counts)
        if "bodies" in requested:
            results["bodies"] = parts.measure_bodies(environment, options.rounds, options.seconds)
        if "metrics" in requested:
            results["metrics"] = measure_metrics(environment, options.rounds)
        if "commands" in requested:
            results["commands"] = measure_commands(environment)
        if "statements" in requested:  # last, because it adds a million messages
            results["statements"] = parts.measure_statements(environment, options.rounds, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
