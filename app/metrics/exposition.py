"""Exposition of the metrics: the values of this process or, if the processes of a host share, of all of them."""

import threading
from collections.abc import Callable, Iterable, Iterator

import gevent
from gevent import monkey
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from app.metrics import (
    archive,
    backups,
    caches,
    chat,
    credentials,
    database,
    db,
    doctor,
    external_gauges,
    files,
    http,
    jobs,
    limits,
    mcp,
    process,
    provider_files,
    tools,
)
from app.metrics.multiprocess import declarations_hash, live_slots, shared_folder
from app.metrics.registry import METRICS, REGISTRY, create_metrics

# Importing these modules declares their metrics, so that METRICS is complete here.
DECLARING = (
    http,
    db,
    chat,
    limits,
    mcp,
    credentials,
    caches,
    jobs,
    doctor,
    archive,
    backups,
    database,
    external_gauges,
    files,
    process,
    provider_files,
    tools,
)

_render_lock = threading.Lock()


def render(accept: str) -> tuple[bytes, str]:
    """Return the metrics and their content type: OpenMetrics or plain text, as the header `accept` asks for.

    Queries no database. Adding up costs CPU for each series of each process, 0.2 s for 4,000 series in 8 processes:
    under gevent a native thread does it, so that streams continue.
    """
    registry = CollectorRegistry()
    registry.register(_AllMetrics())
    encode, content_type = _encoder(accept)
    with _render_lock:
        if shared_folder() is not None and monkey.is_module_patched("threading"):
            return gevent.get_hub().threadpool.apply(encode, (registry,)), content_type
        return encode(registry), content_type


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        return choose_encoder(accept)
    except TypeError:  # the library compares versions part by part, and fails if a part is not a number
        return choose_encoder("")


class _AllMetrics(Collector):
    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not collect to look for duplicates

    def collect(self) -> Iterator[Metric]:
        counted = {metric.name: metric for metric in _counted()}
        external = _external()
        for name in METRICS:
            family = name.removesuffix("_total")  # the library names a counter's family without it
            if family in counted:
                yield counted[family]
            elif name in external:
                yield external[name]


def _counted() -> Iterator[Metric]:
    folder = shared_folder()
    if folder is None:
        create_metrics()
        for metric in REGISTRY.collect():
            # Values in files have no created-timestamps; without them both modes expose the same series.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        return
    files = [
        str(path)
        for kind in ("counter", "histogram", "gauge_mostrecent")
        for path in folder.glob(f"{kind}_*-{declarations_hash()}.db")
    ]
    # Live gauges only count for living processes.
    live = [folder / f"gauge_{mode}_{slot}.db" for slot in live_slots() for mode in ("livesum", "liveall")]
    files += [str(path) for path in live if path.exists()]
    for metric in MultiProcessCollector.merge(files):  # type: ignore[no-untyped-call]  # missing in the library
        if metric.type == "gauge":
            metric.samples = [_by_process(sample) for sample in metric.samples]
        yield metric


def _by_process(sample: Sample) -> Sample:
    """Replace the label `pid`, in which the library puts the slot's name, by `process` with the slot's number."""
    if "pid" not in sample.labels:
        return sample
    labels = {name: value for name, value in sample.labels.items() if name != "pid"}
    return sample._replace(labels={**labels, "process": sample.labels["pid"].partition("-")[0]})


def _external() -> dict[str, CounterMetricFamily | GaugeMetricFamily]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for name, labels, value in external_gauges.recorded():
        declared = METRICS.get(name)
        if declared is None:
            continue  # recorded by a newer version of the code
        make = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
        family = families.setdefault(name, make(name, declared.help, labels=declared.labels))
        family.add_metric(labels, value)
    return families
