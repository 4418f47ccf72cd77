"""The number of requests that wait for a database connection, over all processes of this host."""

from pathlib import Path

from prometheus_client.multiprocess import MultiProcessCollector

from app.metrics.multiprocess import live_slots, shared_folder
from app.metrics.registry import PREFIX

_PENDING = f"{PREFIX}db_pool_pending_requests"


def requests_waiting(home: Path) -> int | None:
    """Return their number, or None if no process shares its metrics in this `home`.

    Reads files and queries no database.
    """
    folder = shared_folder() or home / "run" / "metrics"
    try:
        files = [folder / f"gauge_livesum_{slot}.db" for slot in live_slots(folder)]
        paths = [str(path) for path in files if path.exists()]
        merged = list(MultiProcessCollector.merge(paths)) if paths else []  # type: ignore[no-untyped-call]  # missing in the library
    except OSError:  # the folder belongs to another system account
        return None
    values = [sample.value for metric in merged for sample in metric.samples if sample.name == _PENDING]
    return round(sum(values)) if values else None
