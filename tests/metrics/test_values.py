"""Values of metrics: the buckets of a histogram, and changes by several threads and by forked children."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.metrics.db import DB_POOL_USE, record_pool_timeout, record_pool_use
from tests.metrics.scrape import Since
from tests.metrics.sharing_processes import SharingProcess, completed_turns


@pytest.mark.parametrize("bound", DB_POOL_USE.declared.buckets)
def test_value_counts_in_its_own_bucket_and_all_above(bound: float) -> None:
    """A bucket's bound belongs to it, as Prometheus has it."""
    since = Since()
    record_pool_use(bound)
    record_pool_use(bound * 1.0001)
    buckets = {other: since.counted("db_pool_use_seconds_bucket", le=str(other)) for other in _bounds()}
    assert {other: count for other, count in buckets.items() if other < bound and count} == {}
    assert buckets[float(bound)] == 1
    assert {count for other, count in buckets.items() if other > bound} <= {2}
    assert since.counted("db_pool_use_seconds_bucket", le="+Inf") == 2


def test_value_above_all_bounds_counts_in_the_last_bucket() -> None:
    since = Since()
    record_pool_use(1e9)
    assert since.counted("db_pool_use_seconds_bucket") == 1
    assert since.counted("db_pool_use_seconds_sum") == pytest.approx(1e9)


def test_threads_lose_no_count() -> None:
    since = Since()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: record_pool_timeout(), range(4000)))
    assert since.counted("db_pool_timeouts_total") == 4000


@pytest.mark.process
def test_child_of_a_process_that_outgrew_its_files_counts_on(start: Callable[..., SharingProcess]) -> None:
    """Values that were found before a file grew keep their place in the former mapping."""
    process = start()
    process.send("count 3")
    process.send("routes 900")
    process.send("count 4")
    process.send("fork 5")
    process.send("count 1")
    seen = process.scrape()
    assert completed_turns(seen) == 13
    assert seen.value("http_request_duration_seconds_count") == 900


def _bounds() -> list[float]:
    return [float(bound) for bound in DB_POOL_USE.declared.buckets]
