"""Run the benchmarks, print what came of them beside what they are to reach, and write it as JSON.

    python -m tests.bench [turns] [statements] [streams] [--streams 50,200,500] [--seconds 4] [--rounds 2] [--json FILE]

On a PostgreSQL of its own, with 2 web workers and a provider that answers at once, all on this machine: other things
that it does fall on every number, so what is compared is measured in turns, and the ratios are what can be trusted. All
of it takes about five minutes where nothing else goes on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.bench import parts
from tests.bench.bench import place
from tests.bench.report import console, machine

PARTS = ("turns", "statements", "streams")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--streams", default="50,200,500", help="how many at once, with commas")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement of turns and statements")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    wanted = options.parts or PARTS
    found: dict[str, Any] = {"machine": machine()}
    console.print(found["machine"])
    with place() as here:
        if "turns" in wanted:
            found["turns"] = parts.of_turns(here, options.rounds, options.seconds)
        if "streams" in wanted:
            counts = tuple(int(count) for count in options.streams.split(","))
            found["streams"] = parts.of_streams(here, options.rounds, counts)
        if "statements" in wanted:  # last: the others are not to find a million messages
            found["statements"] = parts.of_statements(here, options.rounds, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
