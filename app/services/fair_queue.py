"""A bounded queue for one resource that serves addresses in turn, and the accounts of each address in turn.

The address that was served longest ago is next, and of it the account that was served longest ago. So how long a caller
waits depends on how many addresses and accounts wait, and not on how many requests each of them sends.

If the queue is full, the newest request of the account that has the most waiting, at the address that has the most
waiting, leaves it.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Waiter:
    """One request. `event` is set when it is its turn, or when it has to leave."""

    __slots__ = ("account", "address", "event", "has_turn")

    def __init__(self, address: str, account: str) -> None:
        self.address, self.account = address, account
        self.event = threading.Event()
        self.has_turn = False


_Accounts = dict[str, deque[_Waiter]]

MAX_REMEMBERED = 1000  # addresses and accounts that were served last; an older one counts as never served


class FairQueue:
    """The queue of one process, in which at most `limit` requests wait. Thread-safe, under gevent too."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, _Accounts] = {}  # by address; it and its accounts in the order of arrival
        self._count = 0
        self._turns = 0
        self._last_turns: OrderedDict[tuple[str, ...], int] = OrderedDict()  # by address, and by address and account
        self._is_busy = False
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, address: str, account: str, seconds: float, full: Callable[[], Exception]) -> Iterator[None]:
        """Wait at most `seconds` for the turn of `account` at `address`, and hold it during the block.

        Raises the error of `full` if that takes longer, or if the request has to leave the full queue.
        """
        waiter = _Waiter(address, account)
        try:
            self._enter(waiter)
            waiter.event.wait(seconds)
            if self._leave(waiter) or not waiter.has_turn:
                raise full()
            yield
        finally:
            self._end(waiter)

    def _enter(self, waiter: _Waiter) -> None:
        with self._lock:
            if not self._is_busy:
                self._is_busy = True
                self._give_turn(waiter)
                return
            self._waiting.setdefault(waiter.address, {}).setdefault(waiter.account, deque()).append(waiter)
            self._count += 1
            if self._count > self._limit:
                self._remove(self._newest_of_largest(waiter.address)).event.set()

    def _newest_of_largest(self, newcomer: str) -> _Waiter:
        """Return the waiter that has to leave; between equal addresses, one of the newcomer's."""
        address = max(self._waiting, key=lambda waiting: (self._size(waiting), waiting == newcomer))
        accounts = self._waiting[address]
        largest = max(reversed(accounts), key=lambda account: len(accounts[account]))
        return accounts[largest][-1]

    def _size(self, address: str) -> int:
        return sum(map(len, self._waiting[address].values()))

    def _remove(self, waiter: _Waiter) -> _Waiter:
        accounts = self._waiting[waiter.address]
        accounts[waiter.account].remove(waiter)
        self._count -= 1
        if not accounts[waiter.account]:
            del accounts[waiter.account]
        if not accounts:
            del self._waiting[waiter.address]
        return waiter

    def _leave(self, waiter: _Waiter) -> bool:
        """Remove the waiter if it still waits; return whether it did."""
        with self._lock:
            accounts = self._waiting.get(waiter.address)
            waits = accounts is not None and waiter in accounts.get(waiter.account, ())
            if waits:
                self._remove(waiter)
            return waits

    def _end(self, waiter: _Waiter) -> None:
        """Give the turn of `waiter`, if it has one, to the next one."""
        self._leave(waiter)  # if it was stopped while it waited
        with self._lock:
            if not waiter.has_turn:
                return
            waiter.has_turn = False
            following = self._next()
            if following is None:
                self._is_busy = False
            else:
                self._give_turn(following)

    def _give_turn(self, waiter: _Waiter) -> None:
        self._turns += 1
        for key in ((waiter.address,), (waiter.address, waiter.account)):
            self._last_turns[key] = self._turns
            self._last_turns.move_to_end(key)
        while len(self._last_turns) > MAX_REMEMBERED:
            self._last_turns.popitem(last=False)
        waiter.has_turn = True
        waiter.event.set()

    def _next(self) -> _Waiter | None:
        """Remove the waiter whose turn is next."""
        if not self._waiting:
            return None
        address = min(self._waiting, key=lambda waiting: self._last_turns.get((waiting,), 0))
        accounts = self._waiting[address]
        account = min(accounts, key=lambda waiting: self._last_turns.get((address, waiting), 0))
        return self._remove(accounts[account][0])
