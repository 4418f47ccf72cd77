"""The registry of all metrics. `METRICS` is the source of documentation, dashboards and alert rules.

A process that shares its metrics (`app.metrics.multiprocess`) keeps their values in files, any other one in memory.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.metrics.file_values import keep_values_in_files
from app.metrics.multiprocess import has_room_for_child, keeps_values_in_files

PREFIX = "parley_"
OTHER = "__other__"  # replaces label values that are not known beforehand

Kind = Literal["counter", "gauge", "histogram"]
# How a gauge's values of several processes are combined: summed over living processes; one series per living process
# with a label `process`, because each has its own limit; or the value that was set last.
MultiprocessMode = Literal["livesum", "liveall", "mostrecent"]


@dataclass(frozen=True)
class Declared:
    """The declaration of one metric: full `name`, `labels` in order, `buckets` in the metric's unit.

    `external` marks a gauge or counter whose values a job reads from elsewhere, see `app.metrics.external_gauges`.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    external: bool = False


METRICS: dict[str, Declared] = {}
REGISTRY = CollectorRegistry()

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


# The library's methods check each time that a metric has its label values, that a counter's amount is not negative and
# that an exemplar is valid, and search a histogram's bucket from below: twice the cost of these.
class _Counter(Counter):
    """A counter without checks."""

    def inc(self, amount: float = 1, exemplar: Any = None) -> None:
        self._value.inc(amount)


class _Gauge(Gauge):
    """A gauge without checks."""

    def inc(self, amount: float = 1) -> None:
        self._value.inc(amount)

    def dec(self, amount: float = 1) -> None:
        self._value.inc(-amount)

    def set(self, value: float) -> None:
        self._value.set(value, time.time() if self._is_most_recent else None)


class _Histogram(Histogram):
    """A histogram without checks, which finds the bucket by bisection."""

    def observe(self, amount: float, exemplar: Any = None) -> None:
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


class DeferredMetric(Generic[Metric]):
    """A declared metric, which prometheus_client creates at its first use, or at the start of the process.

    Creating one opens files if the process shares its metrics, so declaring it, which importing does, must not create
    it. `series` are label values to create with it: what has not occurred yet is then exposed as 0, not absent.
    """

    def __init__(self, declared: Declared, create: Callable[[], Metric]) -> None:
        self.declared = declared
        self._create: Callable[[], Metric] = create
        self.series: Sequence[tuple[str, ...]] = ()

    @cached_property
    def metric(self) -> Metric:
        """The metric of prometheus_client."""
        _choose_value_class()
        metric: Metric = self._create()
        for labels in self.series:
            metric.labels(*labels)
        return metric


@cache
def _choose_value_class() -> None:
    """Set where prometheus_client keeps the values of all metrics of this process, before it creates the first."""
    if keeps_values_in_files():
        keep_values_in_files()


_DEFERRED: list[DeferredMetric[Any]] = []


def create_metrics() -> None:
    """Create all metrics declared so far that do not exist yet."""
    for deferred in _DEFERRED:
        _ = deferred.metric


def counter(name: str, help_text: str, labels: Sequence[str] = ()) -> DeferredMetric[Counter]:
    """Declare a counter. `name` ends in `_total`."""
    declared = _declare(Declared(f"{PREFIX}{name}", "counter", help_text, tuple(labels)))
    return _defer(declared, lambda: _Counter(declared.name, declared.help, declared.labels, registry=REGISTRY))


def gauge(name: str, help_text: str, labels: Sequence[str] = (), *, mode: MultiprocessMode) -> DeferredMetric[Gauge]:
    """Declare a gauge, with the way in which the values of several processes are combined."""
    declared = _declare(Declared(f"{PREFIX}{name}", "gauge", help_text, tuple(labels)))
    return _defer(
        declared,
        lambda: _Gauge(declared.name, declared.help, declared.labels, registry=REGISTRY, multiprocess_mode=mode),
    )


def histogram(
    name: str, help_text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
) -> DeferredMetric[Histogram]:
    """Declare a histogram. `buckets` are upper bounds without infinity."""
    declared = _declare(Declared(f"{PREFIX}{name}", "histogram", help_text, tuple(labels), tuple(buckets)))
    return _defer(
        declared, lambda: _Histogram(declared.name, declared.help, declared.labels, registry=REGISTRY, buckets=buckets)
    )


def external_gauge(name: str, help_text: str, labels: Sequence[str] = ()) -> Declared:
    """Declare a gauge whose values a job reads from elsewhere and passes to `record_external_gauges`."""
    return _declare(Declared(f"{PREFIX}{name}", "gauge", help_text, tuple(labels), external=True))


def external_counter(name: str, help_text: str, labels: Sequence[str] = ()) -> Declared:
    """Declare a counter that another system keeps, such as the database; a job reads it as an external gauge.

    `name` ends in `_total`.
    """
    return _declare(Declared(f"{PREFIX}{name}", "counter", help_text, tuple(labels), external=True))


def _declare(declared: Declared) -> Declared:
    if declared.name in METRICS:
        raise ValueError(f"{declared.name} is declared twice")
    METRICS[declared.name] = declared
    return declared


def _defer(declared: Declared, create: Callable[[], Metric]) -> DeferredMetric[Metric]:
    deferred = DeferredMetric(declared, create)
    _DEFERRED.append(deferred)
    return deferred


class LabelledChildren(dict[tuple[str, ...], Metric], Generic[Metric]):
    """The children of a metric by their label values, cached because `.labels()` costs as much as counting does.

    After `limit` children, or while the disk has no room for another, new label values count as `overflow`.
    """

    def __init__(self, metric: DeferredMetric[Metric], *, limit: int, overflow: tuple[str, ...]) -> None:
        super().__init__()
        self._metric: DeferredMetric[Metric] = metric
        self._limit, self._overflow = limit, overflow

    def __missing__(self, labels: tuple[str, ...]) -> Metric:
        if labels != self._overflow and (len(self) >= self._limit or not has_room_for_child()):
            return self[self._overflow]
        child: Metric = self._metric.metric.labels(*labels)
        self[labels] = child
        return child


class KnownChildren(dict[tuple[str, ...], Metric], Generic[Metric]):
    """The children of a metric whose label values are known: all `series` are created together with the metric.

    Raises KeyError for other label values.
    """

    def __init__(self, metric: DeferredMetric[Metric], series: Iterable[tuple[str, ...]]) -> None:
        super().__init__()
        self._metric: DeferredMetric[Metric] = metric
        metric.series = tuple(series)

    def __missing__(self, labels: tuple[str, ...]) -> Metric:
        if labels not in self._metric.series:
            raise KeyError(labels)
        child: Metric = self._metric.metric.labels(*labels)
        self[labels] = child
        return child
