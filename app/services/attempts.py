"""How often somebody may be wrong about a password, accounts be opened from one address, and all of one be exported.

Of passwords only failures count: a try is counted as it begins, so that many at once are no way around, and given back
if it was right. Three windows count together:

- **account and address:** few. Whoever guesses at an account from one place is stopped soon.
- **account:** many, over all addresses, against guessing from many places. By itself this would let anybody who knows
  an email address lock its owner out for as long as they like. So it does not hold where the owner has logged in from
  before; and elsewhere each window ends, however many come.
- **address:** many, over all accounts, against trying one password on each.

An account is its email address, whether or not there is such an account: what is refused tells nothing about that. The
addresses of people are not in Redis: their keyed hashes are.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from app.config import Limits
from app.errors import LimitReached, RateLimited, TooManyAttempts
from app.services.addresses import network_of
from app.services.limit_counters import LimitCounters

QUARTER, HOUR = 900.0, 3600.0  # seconds


@dataclass(slots=True)
class Attempt:
    """One try. Whoever finds that it was wrong says so."""

    failed: bool = False


class Attempts:
    """Thread-safe. `secret` is the same in all processes that count together."""

    def __init__(self, counters: LimitCounters, settings: Limits, secret: str) -> None:
        self._counters, self._settings = counters, settings
        self._secret = hashlib.sha256(secret.encode()).digest()

    @contextmanager
    def at(self, account: str, address: str | None, familiar: Callable[[], bool]) -> Iterator[Attempt]:
        """A try at the password of `account` from `address`; `familiar` is asked, if it matters, whether its owner has
        logged in from there before.

        Raises `TooManyAttempts`. A block that does not mark the try as failed, or that raises, has not failed.
        """
        whose, where = self._hidden(account), network_of(address)
        pair, everywhere, here = f"login:{whose}:{where}", f"login:{whose}", f"login-from:{where}"
        most = self._settings
        self._count([(pair, QUARTER, most.login_failures), (here, QUARTER, most.login_failures_address)])
        counted = [pair, here]
        try:
            self._count([(everywhere, HOUR, most.login_failures_account)], unless=familiar)
            counted.append(everywhere)
            attempt = Attempt()
            yield attempt
        except BaseException:
            self._counters.give_back(counted)
            raise
        if not attempt.failed:
            self._counters.give_back(counted)

    def registering(self, address: str | None) -> None:
        """Somebody at `address` opens an account, or tries to. Raises `TooManyAttempts`."""
        window = (f"register:{network_of(address)}", HOUR, self._settings.register_per_hour)
        self._count(
            [window], refuse=TooManyAttempts, what="register", tried="Too many accounts were opened from your address"
        )

    def exporting(self, user_id: UUID) -> None:
        """Somebody wants to have everything that is stored about them. Raises `RateLimited`."""
        window = (f"export:{user_id}", HOUR, self._settings.exports_per_hour)
        self._count([window], refuse=RateLimited, what="export", tried="You exported everything often enough")

    def _count(
        self,
        windows: list[tuple[str, float, int]],
        *,
        unless: Callable[[], bool] = lambda: False,
        refuse: type[LimitReached] = TooManyAttempts,
        what: str = "login",
        tried: str = "Too many wrong passwords",
    ) -> None:
        """Count in each window, or in none if one is full; a limit of 0 is none."""
        limited = [window for window in windows if window[2]]
        if not limited:
            return
        counts = self._counters.add([(key, seconds) for key, seconds, _ in limited])
        over = [count for count, (_, _, most) in zip(counts, limited, strict=True) if count.value > most]
        if over and not unless():
            self._counters.give_back([key for key, _, _ in limited])
            seconds = max(1, ceil(max(count.left for count in over)))
            raise refuse(f"{tried}; try again in {seconds} seconds.", limit=what, retry_after=seconds)

    def _hidden(self, account: str) -> str:
        normal = account.strip().casefold()
        return hashlib.blake2b(normal.encode("utf-8", "replace"), key=self._secret, digest_size=16).hexdigest()
