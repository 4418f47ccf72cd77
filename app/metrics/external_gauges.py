"""Gauges whose values one job reads from elsewhere, such as the database, and all processes expose.

A scrape must not query the database: it would fail together with it, and each web worker would query it again. So one
job queries, and records a whole group of gauges at once: a table or job that no longer exists disappears from the
metrics. `external_gauge_timestamp_seconds` gives the age of each group.

A group that is not recorded again within its `ttl` disappears, all but its timestamp. Otherwise a host whose worker no
longer gets the job, because another host's does, would expose old values beside the new ones.
"""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import orjson

from app.metrics.multiprocess import shared_folder
from app.metrics.registry import Declared, external_gauge

Values = Mapping[Declared, Mapping[tuple[str, ...], float]]

_EXPIRES = "expires"  # in a document, beside the metrics' names
_GROUP = re.compile(r"[a-z_]{1,40}")
EXTERNAL_GAUGE_TIMESTAMP = external_gauge(
    "external_gauge_timestamp_seconds", "Unix time at which a group of external gauges was last read.", ("group",)
)

_own: dict[str, bytes] = {}  # the groups of a process that does not share its metrics


def record_external_gauges(group: str, values: Values, *, ttl: timedelta) -> None:
    """Replace all values of `group`, a name such as `jobs`, by `values`: by metric, then by label values.

    They are exposed for `ttl`: a few times the interval of the job that records them.

    Raises ValueError for a metric that `external_gauge` did not declare, or for a wrong number of labels, and OSError
    if the file cannot be written: the former values stay, with their time.
    """
    if not _GROUP.fullmatch(group):
        raise ValueError(f"{group!r} is not a group name: use a-z and _")
    for declared, series in values.items():
        if not declared.external:
            raise ValueError(f"{declared.name} is not an external gauge")
        if any(len(labels) != len(declared.labels) for labels in series):
            raise ValueError(f"{declared.name} has the labels {', '.join(declared.labels)}")
    stamped: Values = {**values, EXTERNAL_GAUGE_TIMESTAMP: {(group,): time.time()}}
    document = orjson.dumps(
        {declared.name: [[labels, value] for labels, value in series.items()] for declared, series in stamped.items()}
        | {_EXPIRES: [[(), time.time() + ttl.total_seconds()]]}
    )
    folder = shared_folder()
    if folder is None:
        _own[group] = document
        return
    # Renaming is atomic: a scrape sees the old values or the new ones.
    draft = folder / f"external_{group}.new"
    try:
        draft.write_bytes(document)
        draft.replace(draft.with_suffix(".json"))
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def recorded() -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield (metric, label values, value) of everything that is recorded and not expired."""
    for document in _documents(shared_folder()):
        groups: dict[str, list[tuple[list[str], float]]] = orjson.loads(document)
        [(_, expires)] = groups.pop(_EXPIRES, [([], float("inf"))])
        expired = time.time() > expires
        for name, series in groups.items():
            if not expired or name == EXTERNAL_GAUGE_TIMESTAMP.name:
                for labels, value in series:
                    yield name, tuple(labels), value


def _documents(folder: Path | None) -> list[bytes]:
    if folder is None:
        return list(_own.values())
    return [path.read_bytes() for path in sorted(folder.glob("external_*.json"))]
