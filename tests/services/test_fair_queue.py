"""The queue that serves addresses and their accounts in turn."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.services.fair_queue import FairQueue
from tests.waiting import wait_until

Caller = tuple[str, str]  # address and account


class Full(Exception):
    """The error of a request that has to leave."""


class Bench:
    """A queue whose resource is held until `serve`; `served` has the callers in order."""

    def __init__(self, limit: int) -> None:
        self.queue = FairQueue(limit)
        self.served: list[Caller] = []
        self._pool = ThreadPoolExecutor(100)
        self._free = threading.Event()
        self._first = self.request(("first", ""), release=self._free)
        wait_until(lambda: self.served == [("first", "")])

    def request(self, caller: Caller, seconds: float = 60, release: threading.Event | None = None) -> "Future[bool]":
        """Return whether the caller's turn will come. Returns once it waits, is served or had to leave."""

        def run() -> bool:
            try:
                with self.queue.turn(*caller, seconds, Full):
                    self.served.append(caller)
                    if release is not None:
                        release.wait(60)
            except Full:
                return False
            return True

        before = self.queue._count, len(self.served)
        future = self._pool.submit(run)
        wait_until(lambda: future.done() or before != (self.queue._count, len(self.served)) or self._is_full())
        return future

    def _is_full(self) -> bool:
        threading.Event().wait(0.05)  # the newcomer, or the one that it displaced, leaves
        return self.queue._count >= self.queue._limit

    def serve(self) -> list[Caller]:
        """Serve all that wait, and return them in order."""
        self._free.set()
        assert self._first.result(60)
        wait_until(lambda: not self.queue._is_busy)
        return self.served[1:]

    def close(self) -> None:
        self._free.set()
        self._pool.shutdown()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(limit=8)
    yield bench
    bench.close()


def test_accounts_of_one_address_take_turns(bench: Bench) -> None:
    for account in ("a", "a", "a", "b", "b", "c"):
        bench.request(("1", account))
    assert [account for _, account in bench.serve()] == ["a", "b", "c", "a", "b", "a"]


def test_addresses_take_turns_however_many_accounts_they_use(bench: Bench) -> None:
    for account in "abcde":
        bench.request(("1", account))
    for account in "xx":
        bench.request(("2", account))
    order = ["1", "2", "1", "2", "1", "1", "1"]
    assert [address for address, _ in bench.serve()] == order


def test_account_that_was_served_longest_ago_is_next(bench: Bench) -> None:
    for account in ("a", "b"):
        bench.request(("1", account))
    bench.serve()
    with bench.queue.turn("1", "c", 60, Full):
        waiting = [bench.request(("1", account)) for account in ("c", "b", "a", "new")]
    assert all(future.result(60) for future in waiting)
    assert [account for _, account in bench.served[3:]] == ["new", "a", "b", "c"]


def test_newcomer_displaces_newest_request_of_largest_account(bench: Bench) -> None:
    large = [bench.request(("1", "a")) for _ in range(7)]
    small = bench.request(("1", "b"))
    newcomer = bench.request(("1", "c"))
    assert large[-1].result(60) is False
    other = bench.request(("2", "d"))
    assert large[-2].result(60) is False
    assert sorted(bench.serve()) == [("1", "a")] * 5 + [("1", "b"), ("1", "c"), ("2", "d")]
    assert all(future.result(60) for future in (*large[:-2], small, newcomer, other))


def test_caller_with_most_requests_is_refused(bench: Bench) -> None:
    for _ in range(7):
        bench.request(("1", "a"))
    bench.request(("2", "b"))
    assert bench.request(("1", "a")).result(60) is False
    assert len(bench.serve()) == 8


def test_request_that_waits_too_long_leaves(bench: Bench) -> None:
    assert bench.request(("1", "a"), seconds=0.05).result(60) is False
    bench.request(("1", "b"))
    assert bench.serve() == [("1", "b")]


def test_failed_turn_passes_on() -> None:
    queue = FairQueue(1)
    for _ in range(2):
        with pytest.raises(RuntimeError), queue.turn("1", "a", 1, Full):
            raise RuntimeError
    with queue.turn("1", "a", 1, Full):
        pass
    assert not queue._is_busy


def test_many_threads_hold_turn_one_at_a_time() -> None:
    queue, held, most = FairQueue(1000), 0, 0

    def run(number: int) -> None:
        nonlocal held, most
        for _ in range(20):
            with queue.turn(str(number % 3), str(number % 7), 60, Full):
                held += 1
                most = max(most, held)
                held -= 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(run, range(20)))
    assert (most, queue._count, queue._is_busy) == (1, 0, False)
