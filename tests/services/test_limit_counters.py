"""Limit counters with a Redis that is available, unavailable, back again, or silent."""

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
from tests.faults.proxy import Proxy
from tests.jobs.conftest import through
from tests.jobs.processes import SECONDS, SilentServer
from tests.metrics.scrape import Since
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]
MINUTE = 60.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded.lease_redis(run_folder(), durable=False) as lease:
        yield lease.url


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))) as proxy:
        yield proxy


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., LimitCounters]]:
    made: list[LimitCounters] = []

    def make(*arguments: object) -> LimitCounters:
        made.append(LimitCounters(*arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for counters in made:
        counters.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"test:{request.node.name}"


def add(counters: LimitCounters, key: str, seconds: float = MINUTE) -> Count:
    [count] = counters.add([(key, seconds)])
    return count


def test_read_returns_counts_without_counting(make: Callable[..., LimitCounters], url: str, key: str) -> None:
    for counters in (make(url), LimitCounters()):
        assert counters.read([key, f"{key}:other"]) == [0, 0]
        add(counters, key)
        assert [counters.read([key, f"{key}:other"]) for _ in range(2)] == [[1, 0]] * 2


@pytest.mark.parametrize("alone", [False, True])
def test_clear_ends_windows_of_all_processes(
    make: Callable[..., LimitCounters], url: str, key: str, alone: bool
) -> None:
    counters = make(None if alone else url)
    others = counters if alone else make(url)
    counters.add([(key, 60), (key + "2", 60)])
    others.clear([key, key + "unknown"])
    assert counters.read([key, key + "2"]) == [0, 1]
    assert [count.value for count in counters.add([(key, 60)])] == [1]


def test_processes_share_counts(make: Callable[..., LimitCounters], url: str, key: str) -> None:
    first, second = make(url), make(url)
    assert [add(counters, key).value for counters in (first, second, first)] == [1, 2, 3]
    assert 50 < add(second, key).seconds_left <= MINUTE
    assert first.add([(key, MINUTE), (f"{key} too", MINUTE)])[1].value == 1
    first.give_back([key, f"{key} too", "never counted"])
    assert add(second, key).value == 5
    assert add(second, f"{key} too").value == 1
    assert add(second, "never counted").value == 1


def test_concurrent_counts_are_exact(make: Callable[..., LimitCounters], url: str, key: str) -> None:
    both = make(url), make(url)
    with ThreadPoolExecutor(40) as pool:  # more than there are connections
        values = list(pool.map(lambda n: add(both[n % 2], key).value, range(400)))
    assert sorted(values) == list(range(1, 401))
    assert both[0].shared
    assert both[1].shared


@pytest.mark.parametrize("alone", [True, False])
def test_window_ends(make: Callable[..., LimitCounters], url: str, key: str, alone: bool) -> None:
    counters = make() if alone else make(url)
    assert add(counters, key, 0.05).value == 1
    wait_until(lambda: add(counters, key, 0.05).value == 1)


def test_key_without_expiry_gets_one(make: Callable[..., LimitCounters], url: str, key: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set(f"parley:limits:{key}", 1_000_000)
    assert 0 < add(make(url), key).seconds_left <= MINUTE


def test_counts_are_local_while_redis_is_unavailable(
    make: Callable[..., LimitCounters], url: str, proxy: Proxy, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_counters, "RETRY_SECONDS", 0.05)
    since = Since()
    counters, other = make(through(proxy, url)), make(url)
    assert [add(counters, key).value, add(other, key).value] == [1, 2]
    proxy.cut()
    assert [add(counters, key).value for _ in range(3)] == [1, 2, 3]  # in its own memory
    assert not counters.shared
    assert since.counted("rate_limit_local_processes") == 1
    assert add(other, key).value == 3
    proxy.repair()
    wait_until(lambda: counters.shared)
    assert since.counted("rate_limit_local_processes") == 0
    assert add(counters, key).value == 4  # the shared count again


def test_redis_restarted_under_load_is_used_again(
    make: Callable[..., LimitCounters], url: str, proxy: Proxy, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call returns, also if its connection breaks."""
    monkeypatch.setattr(limit_counters, "RETRY_SECONDS", 0.05)
    counters, stop = make(through(proxy, url)), threading.Event()
    answered = [0] * 8

    def load(number: int) -> None:
        while not stop.is_set():
            assert add(counters, key).value > 0
            answered[number] += 1

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load, number) for number in range(8)]
        for _ in range(3):
            before = sum(answered)
            wait_until(lambda before=before: sum(answered) > before + 50)
            proxy.cut()
            wait_until(lambda: not counters.shared)
            before = sum(answered)
            wait_until(lambda before=before: sum(answered) > before + 50)
            proxy.repair()
            wait_until(lambda: counters.shared)
        stop.set()
        for future in loads:
            future.result(SECONDS)


def test_redis_that_rejects_commands_counts_as_unavailable(
    make: Callable[..., LimitCounters], url: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The password in the URL is wrong."""
    wrong_url = url.replace(":", ":x", 2).replace(":x//", "://", 1)
    counters = make(wrong_url)
    assert [add(counters, key).value for _ in range(2)] == [1, 2]
    assert not counters.shared
    assert len([record for record in caplog.records if "in its own memory" in record.message]) == 1
    assert not [record for record in caplog.records if url.partition("@")[0].rpartition(":")[2] in record.getMessage()]


def test_only_first_call_waits_for_silent_redis(make: Callable[..., LimitCounters], key: str) -> None:
    with SilentServer() as port:
        counters = make(f"redis://127.0.0.1:{port}/0")
        assert add(counters, key).value == 1
        assert not counters.shared
        # Only the background thread calls Redis now: with half a second for each of these the test would time out.
        assert [add(counters, key).value for _ in range(2000)][-1] == 2001


def test_url_is_looked_up_in_background(
    make: Callable[..., LimitCounters], url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_counters, "RETRY_SECONDS", 0.01)
    started, calls = threading.Event(), list[str]()

    def find_url() -> str:
        calls.append("call")
        if len(calls) == 1:
            raise RuntimeError("Redis does not start")
        started.wait(SECONDS)
        return url

    counters = make(None, find_url)
    assert [add(counters, key).value for _ in range(2)] == [1, 2]
    started.set()
    wait_until(lambda: counters.shared)
    assert len(calls) == 2
    assert add(counters, key).value == 1


def test_lookup_stops_without_redis(make: Callable[..., LimitCounters], key: str) -> None:
    calls = list[str]()
    counters = make(None, lambda: calls.append("call"))
    add(counters, key)
    wait_until(lambda: calls)
    wait_until(lambda: counters._find_url is None)
    assert add(counters, key).value == 2


def test_local_windows_are_bounded(make: Callable[..., LimitCounters], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_counters, "MAX_LOCAL_WINDOWS", 100)
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

switches = 0
def count_switches():
    global switches
    while True:
        switches += 1
        gevent.sleep(0.001)

real = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    if host == "name-without-answer.invalid":
        gevent.sleep(30)  # as a resolver does without its servers
    return real(host, *arguments, **options)
socket.getaddrinfo = getaddrinfo

gevent.spawn(count_switches)
gevent.sleep(0)
for url in sys.argv[1:]:
    counters, before = LimitCounters(url), switches
    waiting = [gevent.spawn(counters.add, [("key", 60)]) for _ in range(200)]
    done = gevent.joinall(waiting, timeout=20)
    values = sorted(greenlet.value[0].value for greenlet in done)
    print(values == list(range(1, 201)), counters.shared, switches > before + 20)
"""


def test_calls_do_not_block_under_gevent(url: str) -> None:
    """200 concurrent calls to a silent Redis return, and other greenlets run at the same time."""
    with SilentServer() as port:
        silent = f"redis://127.0.0.1:{port}/0"
        unknown = "redis://name-without-answer.invalid:6379/0"
        done = subprocess.run(
            [sys.executable, "-c", GEVENT, silent, unknown],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.stdout.splitlines() == ["True False True"] * 2, done.stderr
