"""The main signals of a running server, computed from its scrapes as the dashboards compute them from Prometheus."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from app.metrics.backups import BACKUP_LAST_SUCCESS_TIMESTAMP, RESTORE_DRILL_TIMESTAMP
from app.metrics.chat import TURNS_RUNNING
from app.metrics.database import DISK_FREE_BYTES, DISK_SIZE_BYTES
from app.metrics.db import DB_POOL_CONNECTIONS, DB_POOL_MAX, DB_QUERY_DURATION
from app.metrics.http import HTTP_REQUEST_DURATION
from app.metrics.jobs import BEAT_LAST_TICK_TIMESTAMP, QUEUE_LENGTH
from app.metrics.parsing import Labels
from ops.catalogue.promql import AnyMetric
from ops.stats.scrape import PATH, Scrape

Unit = Literal["per_second", "seconds", "count", "ratio"]

QUANTILE = 0.95
LE = "le"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One signal: its value over all scrapes, and one point for each interval; None where there is no data.

    `maximum` is the limit of the value, if it has one.
    """

    name: str
    unit: Unit
    value: float | None
    maximum: float | None = None
    points: tuple[float | None, ...] = ()


def signals(scrapes: Sequence[Scrape]) -> tuple[Signal, ...]:
    """Return the signals of at least two scrapes, in the order of their times."""
    last = scrapes[-1]
    return (
        _over_time("requests", "per_second", scrapes, _request_rate),
        _over_time("server errors", "per_second", scrapes, _error_rate),
        _over_time("request p95", "seconds", scrapes, lambda some: _p95(some, HTTP_REQUEST_DURATION)),
        _over_time("statement p95", "seconds", scrapes, lambda some: _p95(some, DB_QUERY_DURATION)),
        _fullest_pool(scrapes),
        _gauge("running turns", scrapes, TURNS_RUNNING),
        _gauge("queued jobs", scrapes, QUEUE_LENGTH),
        Signal(name="beat age", unit="seconds", value=_age(last, BEAT_LAST_TICK_TIMESTAMP)),
        Signal(name="backup age", unit="seconds", value=_age(last, BACKUP_LAST_SUCCESS_TIMESTAMP)),
        Signal(name="drill age", unit="seconds", value=_age(last, RESTORE_DRILL_TIMESTAMP)),
        Signal(name="disk free", unit="ratio", value=_free_share(last), maximum=1.0),
    )


def _over_time(
    name: str, unit: Unit, scrapes: Sequence[Scrape], compute: Callable[[Sequence[Scrape]], float | None]
) -> Signal:
    points = tuple(compute(pair) for pair in pairwise(scrapes))
    return Signal(name=name, unit=unit, value=compute(scrapes), points=points)


def _gauge(name: str, scrapes: Sequence[Scrape], metric: AnyMetric) -> Signal:
    points = tuple(scrape.total(metric) for scrape in scrapes)
    return Signal(name=name, unit="count", value=points[-1], points=points)


def _fullest_pool(scrapes: Sequence[Scrape]) -> Signal:
    """Return the connections in use of the process that uses most.

    A sum would say little: each process has a pool of its own, and one that is full makes its requests wait. The pools
    of job processes are as large, but a job uses one or two connections.
    """
    points = tuple(max(scrape.values(DB_POOL_CONNECTIONS, state="used").values(), default=None) for scrape in scrapes)
    maximum = max(scrapes[-1].values(DB_POOL_MAX).values(), default=None)
    return Signal(name="fullest pool", unit="count", value=points[-1], maximum=maximum, points=points)


def _increases(
    scrapes: Sequence[Scrape], metric: AnyMetric, suffix: str, **labels: str
) -> Mapping[Labels, float] | None:
    """Return how much each series has risen, scrapes of metrics excluded; None without the metric.

    A series that is new, or lower than before because the counts began again, has risen from 0.
    """
    counts = [scrape.values(metric, suffix, **labels) for scrape in scrapes]
    if not counts[-1]:
        return None
    increases: dict[Labels, float] = defaultdict(float)
    for before, after in pairwise(counts):
        for series, value in after.items():
            if ("route", PATH) not in series:
                increases[series] += value - before[series] if before.get(series, math.inf) <= value else value
    return increases


def _request_rate(scrapes: Sequence[Scrape], **labels: str) -> float | None:
    increases = _increases(scrapes, HTTP_REQUEST_DURATION, "_count", **labels)
    elapsed = scrapes[-1].clock - scrapes[0].clock
    return None if increases is None or elapsed <= 0 else sum(increases.values()) / elapsed


def _error_rate(scrapes: Sequence[Scrape]) -> float | None:
    return _request_rate(scrapes, status_class="5xx")


def _p95(scrapes: Sequence[Scrape], metric: AnyMetric) -> float | None:
    """Return the quantile of a histogram over all its series; None if nothing was observed."""
    buckets: dict[float, float] = defaultdict(float)
    for series, increase in (_increases(scrapes, metric, "_bucket") or {}).items():
        buckets[float(dict(series)[LE])] += increase
    return quantile(QUANTILE, buckets)


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """Return a quantile of cumulative counts by upper bound, as histogram_quantile does; None without counts."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    rank, lower, below = q * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            # Above the largest bound the value is not known.
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower


def _age(scrape: Scrape, metric: AnyMetric) -> float | None:
    """Return the seconds since the newest timestamp; None if there is none, or only 0, which stands for none."""
    newest = max(scrape.values(metric).values(), default=0.0)
    return max(0.0, scrape.timestamp - newest) if newest else None


def _free_share(scrape: Scrape) -> float | None:
    """Return the free share of the fullest disk."""
    free = scrape.values(DISK_FREE_BYTES)
    shares = [free[place] / size for place, size in scrape.values(DISK_SIZE_BYTES).items() if size and place in free]
    return min(shares, default=None)
