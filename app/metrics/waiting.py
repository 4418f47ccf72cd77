"""How many requests wait for a database connection at this moment, in all processes of this host."""

from pathlib import Path

from prometheus_client.multiprocess import MultiProcessCollector

from app.metrics.folder import seated, shared_folder
from app.metrics.registry import PREFIX

_PENDING = f"{PREFIX}db_pool_pending_requests"


def requests_waiting(home: Path) -> int | None:
    """Their number; None where no process shares what it counts in this `home`. Reads files and asks no database."""
    folder = shared_folder() or home / "run" / "metrics"
    try:
        files = [folder / f"gauge_livesum_{seat}.db" for seat in seated(folder)]
        found = [str(path) for path in files if path.exists()]
        merged = list(MultiProcessCollector.merge(found)) if found else []  # type: ignore[no-untyped-call]  # its gap
    except OSError:  # another account's
        return None
    values = [sample.value for metric in merged for sample in metric.samples if sample.name == _PENDING]
    return round(sum(values)) if values else None
