"""Passwords: their rules, and bcrypt in a thread of its own.

The same password can reach the server in several Unicode forms, depending on the keyboard and the system. It is hashed
in the form NFC. Hashes of older releases may be of another form, so a check tries the forms one after the other; how
many depends on the password only, not on the account.

A hash takes about a quarter of a second of CPU by design. In a request's greenlet it would block all other requests of
the process, so it runs in one native thread (bcrypt releases the GIL) behind a bounded queue.
`PasswordHasher.turn` makes that queue fair to all addresses and accounts.
"""

import concurrent.futures
import re
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import bcrypt
import gevent.threadpool
from gevent import monkey

from app.errors import InvalidInput, Overloaded
from app.services.addresses import network_of
from app.services.common_passwords import is_common
from app.services.fair_queue import FairQueue

MIN_CHARACTERS = 8
MAX_BYTES = 72  # bcrypt ignores the rest, so a longer password would be weaker than it looks
ROUNDS = 12
MAX_WAIT = 10.0  # seconds until it is the turn of a password

# The hash of unknown random bytes. A login without an account is compared with it, to take as long as any other.
DUMMY_HASH = "$2b$12$C57eJnujVUp43VLRc70HW.V5eCG7Fmk3vO.dbpAbPozLGt.XN1Iv2"

_TOO_LONG = f"Longer than {MAX_BYTES} bytes in UTF-8, in which letters outside ASCII take two to four bytes."
_COMMON = "Too common: attackers try this password, or one like it, first. Choose another one."
_SURROGATE = re.compile("[\ud800-\udfff]")

_P = ParamSpec("_P")
_T = TypeVar("_T")


def invalid_reason(password: str) -> str | None:
    """Return why `password` cannot be a password, as a sentence, or None."""
    if _SURROGATE.search(password):
        return "Contains an invalid Unicode character."
    if not _forms(password):
        return _TOO_LONG
    if "\x00" in password:
        return "Contains a NUL byte."
    return None


def unacceptable_reason(password: str) -> str | None:
    """Return why `password` may not be chosen, as a sentence, or None."""
    if reason := invalid_reason(password):
        return reason
    chosen = unicodedata.normalize("NFC", password)
    if len(chosen) < MIN_CHARACTERS:
        return f"Shorter than {MIN_CHARACTERS} characters."
    if not _fits(chosen):
        return _TOO_LONG
    return _COMMON if is_common(chosen) else None


class PasswordHasher:
    """Hashes and verifies passwords, one at a time per process.

    `queue` is how many may wait besides the one in progress; one more gets `Overloaded`. `rounds` is bcrypt's cost, the
    exponent of two. The thread starts with the first password, so a process may fork before that. Under gevent only the
    caller's greenlet waits; call it in the thread of the process's hub.
    """

    def __init__(self, queue: int = 16, rounds: int = ROUNDS) -> None:
        self._rounds = rounds
        self._slots = threading.BoundedSemaphore(queue + 1)
        self._turns = FairQueue(queue)
        self._starting = threading.Lock()
        self._thread: concurrent.futures.Executor | None = None

    @contextmanager
    def turn(self, address: str | None, account: str) -> Iterator[None]:
        """Wait for the turn of `account` at `address`, and hold it during the block, which hashes or verifies.

        Raises `Overloaded` after `MAX_WAIT` seconds, or if others have to be served first and the queue is full.
        """
        with self._turns.turn(network_of(address), account, MAX_WAIT, _overloaded):
            yield

    def hash(self, password: str) -> str:
        """Return the bcrypt hash of `password`, 60 characters.

        Raises `InvalidInput` for a password that may not be chosen, and `Overloaded`.
        """
        if reason := unacceptable_reason(password):
            raise InvalidInput(fields={"password": [reason]})
        return self._run(_hash, password, self._rounds)

    def verify(self, password: str, stored: str | None) -> bool:
        """Return whether `stored` is a hash of `password`. None, for no account, takes as long and returns False.

        Raises `Overloaded`.
        """
        if _SURROGATE.search(password):
            return False
        matches = self._run(_verify, password, stored or DUMMY_HASH)
        return matches and stored is not None

    def _run(self, work: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        if not self._slots.acquire(blocking=False):
            raise _overloaded()
        try:
            return self._executor().submit(work, *arguments, **options).result()
        finally:
            self._slots.release()

    def _executor(self) -> concurrent.futures.Executor:
        with self._starting:
            if self._thread is None:
                patched = monkey.is_module_patched("threading")
                self._thread = (gevent.threadpool if patched else concurrent.futures).ThreadPoolExecutor(1)
            return self._thread


def _overloaded() -> Overloaded:
    return Overloaded("Too many passwords are being checked; try again shortly.", retry_after=1)


def _forms(password: str) -> list[str]:
    """Return the Unicode forms of `password` that can be hashed: NFC, NFD and as sent, without duplicates."""
    if len(password) > MAX_BYTES * 4:  # no form fits; normalizing a long text takes time
        return []
    forms = (unicodedata.normalize("NFC", password), unicodedata.normalize("NFD", password), password)
    return [form for form in dict.fromkeys(forms) if _fits(form)]


def _fits(password: str) -> bool:
    return len(password.encode()) <= MAX_BYTES


def _hash(password: str, rounds: int) -> str:
    return bcrypt.hashpw(unicodedata.normalize("NFC", password).encode(), bcrypt.gensalt(rounds)).decode()


def _verify(password: str, stored: str) -> bool:
    """Check all forms of a wrong password, so that an unknown account takes as long as any other."""
    return any(_matches(form, stored) for form in _forms(password))


def _matches(password: str, stored: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), stored.encode())
    except ValueError:  # bcrypt does not accept the password, or `stored` is not a hash
        return False
