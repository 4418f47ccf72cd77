"""What is remembered: told at once while it is young, looked up by one for all, and better old than nothing."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import DatabaseUnavailable, Unavailable
from app.services.caches import Ages, Cache
from tests.metrics.scrape import Since

AGES = Ages(fresh=2, usable=5, wait=30, retry=1, kept=100)


class Source:
    """Where values are looked up: the numbers 1, 2, ... of each key; `gate` holds look-ups up, `fail` fails them."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.fail = False
        self.gate = threading.Event()
        self.gate.set()
        self.met = threading.Semaphore(0)  # one for each look-up that has begun
        self._now = 0.0

    def __call__(self, key: str) -> str:
        self.looked.append(key)
        number, fails = self.looked.count(key), self.fail
        self.met.release()
        assert self.gate.wait(30)
        if fails:
            raise DatabaseUnavailable
        return f"{key}{number}"

    def clock(self) -> float:
        return self._now

    def later(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def make(source: Source) -> Callable[..., Cache[str, str]]:
    return lambda ages=AGES, size=10: Cache("models", source, ages, size=size, clock=source.clock)


@pytest.fixture
def cache(make: Callable[..., Cache[str, str]]) -> Cache[str, str]:
    return make()


def settled(cache: Cache[str, str]) -> None:
    """No look-up is under way any more."""
    for thread in threading.enumerate():
        if thread.name == "cache models":
            thread.join(30)


def test_a_fresh_value_is_looked_up_once(cache: Cache[str, str], source: Source) -> None:
    since = Since()
    assert [cache.get("a"), cache.get("a"), cache.get("b")] == ["a1", "a1", "b1"]
    source.later(1.9)
    assert cache.get("a") == "a1"
    assert source.looked == ["a", "b"]
    assert since.counted("cache_reads_total", cache="models", result="hit") == 2
    assert since.counted("cache_reads_total", cache="models", result="miss") == 2
    assert since.counted("cache_loads_total", cache="models", outcome="ok") == 2


def test_what_is_due_is_told_and_looked_up_meanwhile(cache: Cache[str, str], source: Source) -> None:
    since = Since()
    cache.get("a")
    source.later(3)
    source.gate.clear()
    assert [cache.get("a"), cache.get("a")] == ["a1", "a1"]  # nobody waits
    source.gate.set()
    settled(cache)
    assert cache.get("a") == "a2"
    assert source.looked == ["a", "a"]
    assert since.counted("cache_reads_total", cache="models", result="stale") == 2


def test_what_is_older_is_waited_for(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    source.later(6)
    assert cache.get("a") == "a2"


def test_but_only_so_long(make: Callable[..., Cache[str, str]], source: Source) -> None:
    cache = make(Ages(fresh=2, usable=5, wait=0.01, retry=1))
    cache.begin("a")
    settled(cache)
    source.later(1000)
    source.gate.clear()
    assert cache.get("a") == "a1"
    with pytest.raises(Unavailable):
        cache.get("b")
    source.gate.set()
    settled(cache)
    assert (cache.last("a"), cache.last("b")) == ("a2", "b1")


def test_the_last_value_holds_while_there_is_no_other(cache: Cache[str, str], source: Source) -> None:
    since = Since()
    cache.get("a")
    source.fail = True
    for _ in range(5):
        source.later(10)
        assert cache.get("a") == "a1"
    assert since.counted("cache_reads_total", cache="models", result="stale") == 5
    assert since.counted("cache_loads_total", cache="models", outcome="error") == 5
    source.fail = False
    source.later(10)
    assert cache.get("a") == "a7"


def test_it_holds_no_longer_than_it_is_kept(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    source.fail = True
    source.later(101)
    with pytest.raises(DatabaseUnavailable):
        cache.get("a")


def test_a_failure_is_not_tried_again_at_once(cache: Cache[str, str], source: Source) -> None:
    source.fail = True
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            cache.get("a")
    assert source.looked == ["a"]
    source.fail = False
    source.later(1)
    assert cache.get("a") == "a2"


def test_many_at_once_look_up_once(cache: Cache[str, str], source: Source) -> None:
    source.gate.clear()
    with ThreadPoolExecutor(20) as threads:
        pending = [threads.submit(cache.get, "a") for _ in range(20)]
        assert source.met.acquire(timeout=30)
        source.gate.set()
        assert {each.result(30) for each in pending} == {"a1"}
    assert source.looked == ["a"]


def test_what_was_forgotten_is_not_told_again(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    cache.forget("a")
    assert cache.get("a") == "a2"
    source.fail = True
    cache.forget("a")
    assert cache.get("a") == "a2"  # unless there is no other


def test_a_look_up_from_before_the_change_is_not_kept(cache: Cache[str, str], source: Source) -> None:
    cache.get("a")
    source.later(3)
    source.gate.clear()
    cache.get("a")
    assert source.met.acquire(timeout=30)
    assert source.met.acquire(timeout=30)  # the second look-up is under way
    cache.forget("a")
    source.gate.set()
    settled(cache)
    assert cache.get("a") == "a3"


def test_side_by_side(cache: Cache[str, str], source: Source) -> None:
    source.gate.clear()
    for key in ("a", "b", "a"):
        cache.begin(key)
    for _ in range(2):
        assert source.met.acquire(timeout=30)
    source.gate.set()
    assert (cache.get("a"), cache.get("b")) == ("a1", "b1")
    cache.begin("a")  # fresh: nothing to look up
    settled(cache)
    assert sorted(source.looked) == ["a", "b"]


def test_it_holds_so_many_values_and_no_more(make: Callable[..., Cache[str, str]], source: Source) -> None:
    cache = make(size=3)
    for number in range(100):
        cache.get(str(number))
    assert [number for number in range(100) if cache.last(str(number)) is not None] == [97, 98, 99]
    assert cache.get("0") == "02"


def test_the_last_value_can_be_had_without_looking(cache: Cache[str, str], source: Source) -> None:
    assert cache.last("a") is None
    cache.get("a")
    source.later(50)
    assert cache.last("a") == "a1"
    assert source.looked == ["a"]
