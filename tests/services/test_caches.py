"""Caches: fresh values are returned, stale ones refreshed by one thread, old ones used if a load fails."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import DatabaseUnavailable, Unavailable
from app.services.caches import Cache, CachePolicy
from tests.metrics.scrape import Since

POLICY = CachePolicy(fresh_for=2, stale_for=5, max_wait=30, retry_after=1, max_age=100)


class Source:
    """The source of values: numbers 1, 2, ... of each key. `gate` blocks loads, `fail` makes them fail."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.fail = False
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)  # released by each load that starts
        self._now = 0.0

    def __call__(self, key: str) -> str:
        self.loads.append(key)
        number, fails = self.loads.count(key), self.fail
        self.started.release()
        assert self.gate.wait(30)
        if fails:
            raise DatabaseUnavailable
        return f"{key}{number}"

    def clock(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def make(source: Source) -> Callable[..., Cache[str, str]]:
    return lambda policy=POLICY, size=10: Cache("models", source, policy, size=size, clock=source.clock)


@pytest.fixture
def cache(make: Callable[..., Cache[str, str]]) -> Cache[str, str]:
    return make()


def wait_for_loads(cache: Cache[str, str]) -> None:
    """Wait until no load is running."""
    for thread in threading.enumerate():
        if thread.name == "cache models":
            thread.join(30)


def test_fresh_value_is_loaded_once(cache: Cache[str, str], source: Source) -> None:
    since = Since()
    assert [cache.get("a"), cache.get("a"), cache.get("b")] == ["a1", "a1", "b1"]
    source.advance(1.9)
    assert cache.get("a") == "a1"
    assert source.loads == ["a", "b"]
    assert since.counted("cache_requests_total", cache="models", result="hit") == 2
    assert since.counted("cache_requests_total", cache="models", result="miss") == 2
    assert since.counted("cache_loads_total", cache="models", outcome="ok") == 2


def test_stale_value_is_returned_and_reloaded(cache: Cache[str, str], source: Source) -> None:
    since = Since()
    cache.get("a")
    source.advance(3)
    source.gate.clear()
    assert [cache.get("a"), cache.get("a")] == ["a1", "a1"]  # without waiting
    source.gate.set()
    wait_for_loads(cache)
    assert cache.get("a") == "a2"
    assert source.loads == ["a", "a"]
    assert since.counted("cache_requests_total", cache="models", result="stale") == 2


def test_expired_value_is_waited_for(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    source.advance(6)
    assert cache.get("a") == "a2"


def test_wait_for_value_is_limited(make: Callable[..., Cache[str, str]], source: Source) -> None:
    cache = make(CachePolicy(fresh_for=2, stale_for=5, max_wait=0.01, retry_after=1))
    cache.prefetch("a")
    wait_for_loads(cache)
    source.advance(1000)
    source.gate.clear()
    assert cache.get("a") == "a1"
    with pytest.raises(Unavailable):
        cache.get("b")
    source.gate.set()
    wait_for_loads(cache)
    assert (cache.last("a"), cache.last("b")) == ("a2", "b1")


def test_failed_load_keeps_last_value(cache: Cache[str, str], source: Source) -> None:
    since = Since()
    cache.get("a")
    source.fail = True
    for _ in range(5):
        source.advance(10)
        assert cache.get("a") == "a1"
    assert since.counted("cache_requests_total", cache="models", result="stale") == 5
    assert since.counted("cache_loads_total", cache="models", outcome="error") == 5
    source.fail = False
    source.advance(10)
    assert cache.get("a") == "a7"


def test_value_is_dropped_after_max_age(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    source.fail = True
    source.advance(101)
    with pytest.raises(DatabaseUnavailable):
        cache.get("a")


def test_failed_load_is_repeated_after_retry_time(cache: Cache[str, str], source: Source) -> None:
    source.fail = True
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            cache.get("a")
    assert source.loads == ["a"]
    source.fail = False
    source.advance(1)
    assert cache.get("a") == "a2"


def test_concurrent_readers_share_one_load(cache: Cache[str, str], source: Source) -> None:
    source.gate.clear()
    with ThreadPoolExecutor(20) as threads:
        pending = [threads.submit(cache.get, "a") for _ in range(20)]
        assert source.started.acquire(timeout=30)
        source.gate.set()
        assert {future.result(30) for future in pending} == {"a1"}
    assert source.loads == ["a"]


def test_invalidated_value_is_reloaded(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    cache.invalidate("a")
    assert cache.get("a") == "a2"
    source.fail = True
    cache.invalidate("a")
    assert cache.get("a") == "a2"  # the load failed


def test_load_started_before_invalidation_is_not_kept(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    source.advance(3)
    source.gate.clear()
    cache.get("a")
    assert source.started.acquire(timeout=30)
    assert source.started.acquire(timeout=30)  # the second load is running
    cache.invalidate("a")
    source.gate.set()
    wait_for_loads(cache)
    assert cache.get("a") == "a3"


def test_prefetched_keys_load_concurrently(cache: Cache[str, str], source: Source) -> None:
    source.gate.clear()
    for key in ("a", "b", "a"):
        cache.prefetch(key)
    for _ in range(2):
        assert source.started.acquire(timeout=30)
    source.gate.set()
    assert (cache.get("a"), cache.get("b")) == ("a1", "b1")
    cache.prefetch("a")  # fresh, so not loaded
    wait_for_loads(cache)
    assert sorted(source.loads) == ["a", "b"]


def test_number_of_values_is_limited(make: Callable[..., Cache[str, str]], source: Source) -> None:
    cache = make(size=3)
    for number in range(100):
        cache.get(str(number))
    assert [number for number in range(100) if cache.last(str(number)) is not None] == [97, 98, 99]
    assert cache.get("0") == "02"


def test_last_value_is_returned_without_load(cache: Cache[str, str], source: Source) -> None:
    assert cache.last("a") is None
    cache.get("a")
    source.advance(50)
    assert cache.last("a") == "a1"
    assert source.loads == ["a"]
