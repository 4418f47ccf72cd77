"""Limits of failed password checks, registrations, requests for mails, and full exports of a user's data.

Only failed checks count. A try is counted when it begins, so that concurrent tries cannot exceed a limit, and given
back if it succeeds. A window that is full of tries whose outcome is not known yet rejects nothing: the next try waits
for an outcome. Three windows count together:

- **account and address:** a low limit, against guessing from one place.
- **account:** a higher limit over all addresses, against guessing from many places. Alone, it would let an attacker who
  has an email address lock the owner out. So it does not hold for an address from which the owner has logged in
  before, and each window ends, however many tries there are.
- **address:** a higher limit over all accounts, against trying one password on each.

An account is the normal form of its email address, which is also what the database looks up. Whether the account
exists makes no difference, so a rejection does not reveal it. Redis holds keyed hashes of email addresses, not the
addresses themselves.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from app.config import Limits
from app.errors import LimitReached, Overloaded, RateLimited, TooManyAttempts
from app.services.addresses import network_of
from app.services.limit_counters import Count, LimitCounters
from app.text import address_key

LOGIN_WINDOW, HOUR = 900.0, 3600.0  # seconds
PATIENCE = 10.0  # seconds that a try waits for the outcome of others
PAUSE = (0.05, 0.15)  # seconds between two looks, at random


@dataclass(slots=True)
class Attempt:
    """One check of a password. Set `failed` if the password was wrong."""

    failed: bool = False


class AttemptLimits:
    """The limits of one process. Thread-safe. `secret` must be the same in all processes that share counters."""

    def __init__(self, counters: LimitCounters, settings: Limits, secret: str) -> None:
        self._counters, self._settings = counters, settings
        self._secret = hashlib.sha256(secret.encode()).digest()

    @contextmanager
    def password_check(self, account: str, address: str | None, is_known: Callable[[], bool]) -> Iterator[Attempt]:
        """Limit a check of the password of `account` from `address`.

        `is_known` returns whether the owner has logged in from there before; it is called only if that matters. Raises
        `TooManyAttempts` and `Overloaded`. A block that does not set `failed`, or that raises, does not count.
        """
        account_hash, network = self._hash(account), network_of(address)
        settings = self._settings
        pair = _Window(f"login:{account_hash}:{network}", LOGIN_WINDOW, settings.login_failures)
        here = _Window(f"login-from:{network}", LOGIN_WINDOW, settings.login_failures_address)
        everywhere = _Window(f"login:{account_hash}", HOUR, settings.login_failures_account)
        counted: list[_Window] = []
        try:
            for windows, exempt in (([pair, here], lambda: False), ([everywhere], is_known)):
                self._begin([window for window in windows if window.limit], exempt)
                counted += windows
            attempt = Attempt()
            yield attempt
        except BaseException:
            self._give_back(counted)
            raise
        if attempt.failed:
            self._counters.add([(window.failures, window.seconds) for window in counted])
        else:
            self._give_back(counted)

    def clear_failures(self, account: str, address: str | None) -> None:
        """Discard failed checks of the password of `account`, of all addresses together and of `address`.

        Those of other addresses and those of `address` with other accounts still count.
        """
        account_hash = self._hash(account)
        keys = (f"login:{account_hash}", f"login:{account_hash}:{network_of(address)}")
        windows = [_Window(key, 0, 0) for key in keys]
        self._counters.clear([key for window in windows for key in (window.key, window.failures)])

    def count_registration(self, address: str | None) -> None:
        """Count a registration or a change of an email address, or a failed one. Raises `TooManyAttempts`."""
        window = (f"register:{network_of(address)}", HOUR, self._settings.register_per_hour)
        self._count(window, limit="register", problem="Too many new accounts or email changes from your address")

    def count_reset_request(self, email: str, address: str | None) -> None:
        """Count a request for a mail that resets the password of `email`. Raises `TooManyAttempts`.

        Whether the account exists makes no difference.
        """
        settings = self._settings
        here = (f"reset-from:{network_of(address)}", HOUR, settings.resets_per_hour)
        self._count(here, limit="reset", problem="Too many mails were requested from your address")
        account = (f"reset:{self._hash(email)}", HOUR, settings.resets_account_per_hour)
        self._count(account, limit="reset", problem="Too many mails were requested for this account")

    def count_export(self, user_id: UUID) -> None:
        """Count a full export of a user's data. Raises `RateLimited`."""
        window = (f"export:{user_id}", HOUR, self._settings.exports_per_hour)
        self._count(window, error=RateLimited, limit="export", problem="You have exported your data too often")

    def _begin(self, windows: list["_Window"], exempt: Callable[[], bool]) -> None:
        """Count a try in each window, or in none. Wait while one is full only because of tries without an outcome.

        Raises `TooManyAttempts`, and `Overloaded` after `PATIENCE`.
        """
        deadline = time.monotonic() + PATIENCE
        while windows:
            counts = self._counters.add([(window.key, window.seconds) for window in windows])
            full = [
                (window, count) for window, count in zip(windows, counts, strict=True) if count.value > window.limit
            ]
            if not full:
                return
            failures = self._counters.read([window.failures for window, _ in full])
            failed = [count for (window, count), value in zip(full, failures, strict=True) if value >= window.limit]
            if failed and exempt():
                return
            self._give_back(windows)
            if failed:
                raise _rejection(TooManyAttempts, failed, "login", "Too many wrong passwords")
            if time.monotonic() > deadline:
                raise Overloaded("Too many passwords are being checked; try again shortly.", retry_after=1)
            time.sleep(random.uniform(*PAUSE))  # noqa: S311  # no secret

    def _give_back(self, windows: list["_Window"]) -> None:
        if keys := [window.key for window in windows if window.limit]:
            self._counters.give_back(keys)

    def _count(
        self, window: tuple[str, float, int], *, limit: str, problem: str, error: type[LimitReached] = TooManyAttempts
    ) -> None:
        """Count in a window (key, seconds, limit), unless it is full. A limit of 0 means no limit."""
        key, seconds, most = window
        if not most:
            return
        (count,) = self._counters.add([(key, seconds)])
        if count.value > most:
            self._counters.give_back([key])
            raise _rejection(error, [count], limit, problem)

    def _hash(self, account: str) -> str:
        return hashlib.blake2b(
            address_key(account).encode("utf-8", "replace"), key=self._secret, digest_size=16
        ).hexdigest()


@dataclass(frozen=True, slots=True)
class _Window:
    """The tries under `key`, of which at most `limit` may fail in `seconds`; 0 means no limit."""

    key: str
    seconds: float
    limit: int

    @property
    def failures(self) -> str:
        """The key of the tries that failed."""
        return f"{self.key}:failed"


def _rejection(error: type[LimitReached], counts: list[Count], limit: str, problem: str) -> LimitReached:
    seconds = max(1, ceil(max(count.seconds_left for count in counts)))
    return error(f"{problem}; try again in {seconds} seconds.", limit=limit, retry_after=seconds)
