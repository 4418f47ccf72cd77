"""What `GET /metrics` answers: this process's values, or, where the processes of a host share, those of all of them."""

import threading
from collections.abc import Callable, Iterable, Iterator

import gevent
from gevent import monkey
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from app.metrics import archive, backups, caches, care, chat, db, http, jobs, limits, readings
from app.metrics.folder import code, seated, shared_folder
from app.metrics.registry import METRICS, REGISTRY

# Importing a module declares its metrics: all of them are to be in METRICS, whoever asks.
DECLARING = (http, db, chat, limits, caches, jobs, care, archive, backups, readings)


_one_at_a_time = threading.Lock()


def render(accept: str) -> tuple[bytes, str]:
    """The metrics and their content type, in the format that the header `accept` asks for: OpenMetrics or plain text.

    Asks no database. Adding up costs CPU for every series of every process, 0.2 s for 4,000 of them in 8: under gevent
    a thread does it, so that nobody's stream stands still for that long.
    """
    registry = CollectorRegistry()
    registry.register(_Everything())
    encode, content_type = _encoder(accept)
    with _one_at_a_time:
        if shared_folder() is not None and monkey.is_module_patched("threading"):
            return gevent.get_hub().threadpool.apply(encode, (registry,)), content_type
        return encode(registry), content_type


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        return choose_encoder(accept)
    except TypeError:  # the library compares versions part by part, and not all parts are numbers
        return choose_encoder("")


class _Everything(Collector):
    def describe(self) -> Iterable[Metric]:
        return ()  # nothing to check for duplicates, and nothing to be collected for that

    def collect(self) -> Iterator[Metric]:
        counted = {metric.name: metric for metric in _counted()}
        read = _read()
        for name in METRICS:
            family = name.removesuffix("_total")  # of a counter, which the library names without
            if family in counted:
                yield counted[family]
            elif name in read:
                yield read[name]


def _counted() -> Iterable[Metric]:
    folder = shared_folder()
    if folder is None:
        return REGISTRY.collect()
    files = [
        str(path)
        for kind in ("counter", "histogram", "gauge_mostrecent")
        for path in folder.glob(f"{kind}_*-{code()}.db")
    ]
    # What is under way counts only where somebody lives.
    live = [folder / f"gauge_{mode}_{seat}.db" for seat in seated() for mode in ("livesum", "liveall")]
    files += [str(path) for path in live if path.exists()]
    merged = list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]  # the library's gap
    for metric in merged:
        if metric.type == "gauge":
            metric.samples = [_by_process(sample) for sample in metric.samples]
    return merged


def _by_process(sample: Sample) -> Sample:
    """What the library takes for the id of a process is the name of a seat; its number is enough."""
    if "pid" not in sample.labels:
        return sample
    labels = {name: value for name, value in sample.labels.items() if name != "pid"}
    return sample._replace(labels={**labels, "process": sample.labels["pid"].partition("-")[0]})


def _read() -> dict[str, GaugeMetricFamily]:
    families: dict[str, GaugeMetricFamily] = {}
    for name, labels, value in readings.recorded():
        declared = METRICS.get(name)
        if declared is None:
            continue  # recorded by a newer version of the code
        family = families.setdefault(name, GaugeMetricFamily(name, declared.help, labels=declared.labels))
        family.add_metric(labels, value)
    return families
