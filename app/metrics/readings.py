"""Values that somebody reads from elsewhere, such as the database, and everybody shows.

A scrape must not ask the database: it would fail with it, and every web worker would ask again. So one job asks, and
records what it read as a whole; a table or job that is gone is gone from the metrics too. `readings_timestamp_seconds`
says how old they are.
"""

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from app.metrics.folder import shared_folder
from app.metrics.registry import Declared, reading

Values = Mapping[Declared, Mapping[tuple[str, ...], float]]

_PLACE = re.compile(r"[a-z_]{1,40}")
_TIMESTAMP = reading("readings_timestamp_seconds", "When the values of one kind were last read.", ("place",))

_own: dict[str, bytes] = {}  # in a process that does not share


def record_readings(place: str, values: Values) -> None:
    """Replace all that was recorded for `place`, a name such as `jobs`, by `values`: by metric, then by label values.

    Raises ValueError for a metric that was not declared by `reading`, or for labels that are not its own.
    """
    if not _PLACE.fullmatch(place):
        raise ValueError(f"{place!r} is no name of a place: a-z and _ only")
    for declared, series in values.items():
        if not declared.read:
            raise ValueError(f"{declared.name} is counted, not read")
        if any(len(labels) != len(declared.labels) for labels in series):
            raise ValueError(f"{declared.name} has the labels {', '.join(declared.labels)}")
    stamped: Values = {**values, _TIMESTAMP: {(place,): time.time()}}
    document = orjson.dumps(
        {declared.name: [[labels, value] for labels, value in series.items()] for declared, series in stamped.items()}
    )
    folder = shared_folder()
    if folder is None:
        _own[place] = document
        return
    # Replaced in one step: a scrape sees the old values or the new ones.
    draft = folder / f"readings_{place}.new"
    draft.write_bytes(document)
    draft.replace(draft.with_suffix(".json"))


def recorded() -> Iterator[tuple[str, tuple[str, ...], float]]:
    """(metric, label values, value) of everything that was recorded."""
    for document in _documents(shared_folder()):
        for name, series in orjson.loads(document).items():
            for labels, value in series:
                yield name, tuple(labels), value


def _documents(folder: Path | None) -> list[bytes]:
    if folder is None:
        return list(_own.values())
    return [path.read_bytes() for path in sorted(folder.glob("readings_*.json"))]
