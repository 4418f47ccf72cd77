"""Counting in a Redis that answers, that goes, that comes back, and that says nothing."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from app.services import limit_counters
from app.services.limit_counters import Count, LimitCounters
from ops import embedded
from tests.database import run_folder
from tests.jobs.conftest import through
from tests.jobs.processes import SECONDS, Gate, Silent, eventually
from tests.metrics.scrape import Since

PROJECT = Path(__file__).parents[2]
MINUTE = 60.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        yield lease.url


@pytest.fixture
def gate(url: str) -> Iterator[Gate]:
    gate = Gate(int(url.rpartition(":")[2].partition("/")[0]))
    yield gate
    gate.shut()


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., LimitCounters]]:
    made: list[LimitCounters] = []

    def make(*arguments: object) -> LimitCounters:
        made.append(LimitCounters(*arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"test:{request.node.name}"


def add(counters: LimitCounters, key: str, seconds: float = MINUTE) -> Count:
    [count] = counters.add([(key, seconds)])
    return count


def test_processes_count_together(make: Callable[..., LimitCounters], url: str, key: str) -> None:
    one, two = make(url), make(url)
    assert [add(each, key).value for each in (one, two, one)] == [1, 2, 3]
    assert 50 < add(two, key).left <= MINUTE
    assert one.add([(key, MINUTE), (f"{key} too", MINUTE)])[1].value == 1
    one.give_back([key, f"{key} too", "never counted"])
    assert add(two, key).value == 5
    assert add(two, f"{key} too").value == 1
    assert add(two, "never counted").value == 1


def test_counts_that_race_are_all_counted(make: Callable[..., LimitCounters], url: str, key: str) -> None:
    both = make(url), make(url)
    with ThreadPoolExecutor(40) as pool:  # more than there are connections
        values = list(pool.map(lambda n: add(both[n % 2], key).value, range(400)))
    assert sorted(values) == list(range(1, 401))
    assert both[0].shared
    assert both[1].shared


@pytest.mark.parametrize("alone", [True, False])
def test_a_window_ends(make: Callable[..., LimitCounters], url: str, key: str, alone: bool) -> None:
    counters = make() if alone else make(url)
    assert add(counters, key, 0.05).value == 1
    eventually(lambda: add(counters, key, 0.05).value == 1)


def test_a_count_without_an_end_gets_one(make: Callable[..., LimitCounters], url: str, key: str) -> None:
    with redis.Redis.from_url(url) as inside:
        inside.set(f"parley:limits:{key}", 1_000_000)
    assert 0 < add(make(url), key).left <= MINUTE


def test_a_redis_that_goes_and_comes_back(
    make: Callable[..., LimitCounters], url: str, gate: Gate, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_counters, "LOOK_AGAIN", 0.05)
    since = Since()
    counters, other = make(through(gate, url)), make(url)
    assert [add(each, key).value for each in (counters, other)] == [1, 2]
    gate.shut()
    assert [add(counters, key).value for _ in range(3)] == [1, 2, 3]  # its own
    assert not counters.shared
    assert since.counted("limits_counted_alone") == 1
    assert add(other, key).value == 3
    gate.open()
    eventually(lambda: counters.shared)
    assert since.counted("limits_counted_alone") == 0
    assert add(counters, key).value == 4  # what everybody counted is what counts again


def test_a_redis_that_was_restarted_under_load_is_found_again(
    make: Callable[..., LimitCounters], url: str, gate: Gate, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call is answered, whatever happens to its connection."""
    monkeypatch.setattr(limit_counters, "LOOK_AGAIN", 0.05)
    counters, stop = make(through(gate, url)), threading.Event()
    answered = [0] * 8

    def load(number: int) -> None:
        while not stop.is_set():
            assert add(counters, key).value > 0
            answered[number] += 1

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load, number) for number in range(8)]
        for _ in range(3):
            before = sum(answered)
            eventually(lambda before=before: sum(answered) > before + 50)
            gate.shut()
            eventually(lambda: not counters.shared)
            before = sum(answered)
            eventually(lambda before=before: sum(answered) > before + 50)
            gate.open()
            eventually(lambda: counters.shared)
        stop.set()
        for each in loads:
            each.result(SECONDS)


def test_a_redis_that_cannot_count_is_as_good_as_away(
    make: Callable[..., LimitCounters], url: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers, and refuses: the password in the URL is wrong."""
    wrong = url.replace(":", ":x", 2).replace(":x//", "://", 1)
    counters = make(wrong)
    assert [add(counters, key).value for _ in range(2)] == [1, 2]
    assert not counters.shared
    assert len([each for each in caplog.records if "by each process alone" in each.message]) == 1
    assert not [each for each in caplog.records if url.partition("@")[0].rpartition(":")[2] in each.getMessage()]


def test_only_the_first_waits_for_a_redis_that_says_nothing(make: Callable[..., LimitCounters], key: str) -> None:
    with Silent() as port:
        counters = make(f"redis://127.0.0.1:{port}/0")
        assert add(counters, key).value == 1
        assert not counters.shared
        # From now on nobody asks but the one that looks whether it is back; with half a second for each of these,
        # the test would not end in its time.
        assert [add(counters, key).value for _ in range(2000)][-1] == 2001


def test_an_embedded_redis_is_asked_for_without_anybody_waiting(
    make: Callable[..., LimitCounters], url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_counters, "LOOK_AGAIN", 0.01)
    started, asked = threading.Event(), list[str]()

    def find() -> str:
        asked.append("once more")
        if len(asked) == 1:
            raise RuntimeError("it does not start")
        started.wait(SECONDS)
        return url

    counters = make(None, find)
    assert [add(counters, key).value for _ in range(2)] == [1, 2]
    started.set()
    eventually(lambda: counters.shared)
    assert len(asked) == 2
    assert add(counters, key).value == 1


def test_without_any_redis_nobody_looks_for_one_for_ever(make: Callable[..., LimitCounters], key: str) -> None:
    asked = list[str]()
    counters = make(None, lambda: asked.append("once"))
    add(counters, key)
    eventually(lambda: asked)
    eventually(lambda: counters._find is None)
    assert add(counters, key).value == 2


def test_what_a_process_counts_alone_has_bounds(
    make: Callable[..., LimitCounters], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_counters, "MOST_LOCAL", 100)
    counters = make()
    for number in range(1000):
        add(counters, f"address {number}")
    assert len(counters._local._windows) == 100
    counters.give_back(["address 999", "address 0"])
    assert add(counters, "address 999").value == 1


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, socket, gevent
from app.services.limit_counters import LimitCounters

turns = 0
def others():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.001)

real = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    if host == "a-name-that-nobody-answers-for.invalid":
        gevent.sleep(30)  # as a resolver does whose servers are away
    return real(host, *arguments, **options)
socket.getaddrinfo = getaddrinfo

gevent.spawn(others)
gevent.sleep(0)
for url in sys.argv[1:]:
    counters, before = LimitCounters(url), turns
    waiting = [gevent.spawn(counters.add, [("key", 60)]) for _ in range(200)]
    done = gevent.joinall(waiting, timeout=20)
    values = sorted(each.value[0].value for each in done)
    print(values == list(range(1, 201)), counters.shared, turns > before + 20)
"""


def test_nothing_blocks_under_gevent(url: str) -> None:
    """Two hundred requests at once: each is answered, whoever does not answer us, and others go on meanwhile."""
    with Silent() as port:
        silent = f"redis://127.0.0.1:{port}/0"
        unknown = "redis://a-name-that-nobody-answers-for.invalid:6379/0"
        done = subprocess.run(
            [sys.executable, "-c", GEVENT, silent, unknown],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.stdout.splitlines() == ["True False True"] * 2, done.stderr
