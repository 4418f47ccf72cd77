"""Where every metric is declared, once: `METRICS` is what documentation, dashboards and rules are made from.

A process that was told to share (`app.metrics.folder`) keeps its values in files; any other keeps them in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values

from app.metrics.folder import seat, shared_folder

PREFIX = "parley_"
OTHER = "__other__"  # stands for every label value beyond those that are known beforehand

Kind = Literal["counter", "gauge", "histogram"]
# How the values of several processes become one: added up over those that live; not at all, but told apart by a label
# `process`, because each process has a limit of its own; or the one that was set last.
Across = Literal["livesum", "liveall", "mostrecent"]

# Created-timestamps cannot be had from files; without them both kinds of process show the same.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own gap, as below
if shared_folder() is not None:
    values.ValueClass = values.MultiProcessValue(process_identifier=seat)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Declared:
    """One metric. `name` is the full one, `labels` in their order, `buckets` in the metric's unit.

    `read` is true for values that a job reads from elsewhere, see `app.metrics.readings`.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    read: bool = False


METRICS: dict[str, Declared] = {}
REGISTRY = CollectorRegistry()


def counter(name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
    """Declare a counter; `name` ends in `_total`."""
    declared = _declare(Declared(f"{PREFIX}{name}", "counter", help_text, tuple(labels)))
    return Counter(declared.name, declared.help, declared.labels, registry=REGISTRY)


def gauge(name: str, help_text: str, labels: Sequence[str] = (), *, across: Across) -> Gauge:
    """Declare a gauge, saying what it is across several processes."""
    declared = _declare(Declared(f"{PREFIX}{name}", "gauge", help_text, tuple(labels)))
    return Gauge(declared.name, declared.help, declared.labels, registry=REGISTRY, multiprocess_mode=across)


def histogram(name: str, help_text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Histogram:
    """Declare a histogram; `buckets` are upper bounds without infinity."""
    declared = _declare(Declared(f"{PREFIX}{name}", "histogram", help_text, tuple(labels), tuple(buckets)))
    return Histogram(declared.name, declared.help, declared.labels, registry=REGISTRY, buckets=buckets)


def reading(name: str, help_text: str, labels: Sequence[str] = ()) -> Declared:
    """Declare a gauge that is read from elsewhere and recorded by `record_readings`."""
    return _declare(Declared(f"{PREFIX}{name}", "gauge", help_text, tuple(labels), read=True))


def _declare(declared: Declared) -> Declared:
    if declared.name in METRICS:
        raise ValueError(f"{declared.name} is declared twice")
    METRICS[declared.name] = declared
    return declared


Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class Children(dict[tuple[str, ...], Metric], Generic[Metric]):
    """The children of a metric by their label values, each bound once: `.labels()` costs as much as counting does.

    Beyond `limit` children all further label values count as `overflow`.
    """

    def __init__(self, metric: Metric, *, limit: int, overflow: tuple[str, ...]) -> None:
        super().__init__()
        self._metric: Metric = metric
        self._limit, self._overflow = limit, overflow

    def __missing__(self, labels: tuple[str, ...]) -> Metric:
        if len(self) >= self._limit and labels != self._overflow:
            return self[self._overflow]
        child = self[labels] = self._metric.labels(*labels)
        return child
