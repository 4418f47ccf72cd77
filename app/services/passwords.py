"""Passwords: the rules for choosing one, and bcrypt where it holds nobody up.

A hash costs about a quarter of a second of CPU by design. In a request's greenlet it would stop every other request of
the process, so it runs in one native thread (bcrypt lets go of the GIL) behind a bounded queue.
"""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import bcrypt
import gevent.threadpool
from gevent import monkey

from app.errors import InvalidInput, Overloaded

MIN_CHARACTERS = 8
MAX_BYTES = 72  # bcrypt looks at no more, so a longer password would be less than it seems
ROUNDS = 12

# Of random bytes that nobody kept. A login without an account is compared with this, to take as long as any other.
DUMMY_HASH = "$2b$12$C57eJnujVUp43VLRc70HW.V5eCG7Fmk3vO.dbpAbPozLGt.XN1Iv2"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def unusable(password: str) -> str | None:
    """Why `password` can be nobody's, as a sentence, or None."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        return "Contains something that is no Unicode character."
    if size > MAX_BYTES:
        return f"Longer than {MAX_BYTES} bytes in UTF-8, where letters beyond ASCII take two to four."
    if "\x00" in password:
        return "Contains a NUL byte."
    return None


def unfit(password: str) -> str | None:
    """Why `password` may not be chosen, as a sentence, or None."""
    if len(password) < MIN_CHARACTERS:
        return f"Shorter than {MIN_CHARACTERS} characters."
    return unusable(password)


class PasswordHasher:
    """Hashes and verifies, one password at a time per process.

    `queue` is how many may wait beside the one in work; the next gets `Overloaded`. `rounds` is bcrypt's cost, a power
    of two. The thread starts with the first password, so a process may fork after making one of these. Under gevent
    only the caller's greenlet waits; call from the thread of the process's hub.
    """

    def __init__(self, queue: int = 16, rounds: int = ROUNDS) -> None:
        self._rounds = rounds
        self._places = threading.BoundedSemaphore(queue + 1)
        self._starting = threading.Lock()
        self._thread: concurrent.futures.Executor | None = None

    def hash(self, password: str) -> str:
        """The bcrypt hash of `password`, 60 characters.

        Raises `InvalidInput` for a password that may not be chosen, and `Overloaded`.
        """
        if complaint := unfit(password):
            raise InvalidInput(fields={"password": [complaint]})
        return self._run(_hash, password, self._rounds)

    def verify(self, password: str, stored: str | None) -> bool:
        """Whether the hash `stored` was made of `password`. None, for no account, takes as long and is False.

        Raises `Overloaded`.
        """
        matches = self._run(_verify, password, stored or DUMMY_HASH)
        return matches and stored is not None

    def _run(self, work: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        if not self._places.acquire(blocking=False):
            raise Overloaded("Too many passwords are being checked just now; try again shortly.", retry_after=1)
        try:
            return self._executor().submit(work, *arguments, **options).result()
        finally:
            self._places.release()

    def _executor(self) -> concurrent.futures.Executor:
        with self._starting:
            if self._thread is None:
                patched = monkey.is_module_patched("threading")
                self._thread = (gevent.threadpool if patched else concurrent.futures).ThreadPoolExecutor(1)
            return self._thread


def _hash(password: str, rounds: int) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def _verify(password: str, stored: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), stored.encode())
    except ValueError:  # a password that bcrypt cannot take, or `stored` is no hash: neither matches anything
        return False
