"""Draw each dashboard as an SVG file, from its JSON and the data of a running Prometheus.

    python -m tests.pictures [--prometheus http://127.0.0.1:9090] [--minutes 15] [--folder docs/dashboards]

`make up` and `make monitoring` run a platform and its Prometheus; without load, most panels are empty. These are not
pictures of Grafana: they show what its panels ask and what they get.
"""

import argparse
import json
import time
from pathlib import Path

from ops.generate.grafana.dashboards import DASHBOARDS, path_of
from tests.pictures.dashboard import draw_dashboard
from tests.pictures.source import Source

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "dashboards"


def main(arguments: list[str] | None = None) -> None:
    """Draw all dashboards."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--minutes", type=float, default=15, help="length of the time axis, which ends now")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pictures are written")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    source = Source(options.prometheus, end=time.time(), seconds=options.minutes * 60)
    for dashboard in DASHBOARDS:
        document = json.loads((ROOT / path_of(dashboard)).read_text())
        path = options.folder / f"{dashboard.uid.removeprefix('parley-')}.svg"
        path.write_text(draw_dashboard(document, source))


if __name__ == "__main__":
    main()
