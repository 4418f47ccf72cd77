"""Passwords: what may be one, and that hashing one holds nobody up."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.errors import InvalidInput, Overloaded
from app.services.passwords import DUMMY_HASH, ROUNDS, PasswordHasher, unfit, unusable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hasher() -> PasswordHasher:
    """One that is quick, for what does not depend on the cost."""
    return PasswordHasher(rounds=4)


def test_a_hash_takes_twelve_rounds_and_knows_its_password() -> None:
    hasher = PasswordHasher()
    stored = hasher.hash("correct horse")
    assert stored.startswith("$2b$12$")
    assert len(stored) == 60
    assert hasher.verify("correct horse", stored)
    assert not hasher.verify("correct horsf", stored)


def test_the_hash_for_nobody_costs_as_much_as_a_real_one() -> None:
    assert DUMMY_HASH.split("$")[1:3] == ["2b", str(ROUNDS)]
    assert len(DUMMY_HASH) == 60


@pytest.mark.parametrize("stored", [None, "", "!", "$2b$04$short", "\N{SNOWMAN}" * 60])
def test_what_is_no_hash_matches_nothing(hasher: PasswordHasher, stored: str | None) -> None:
    assert hasher.verify("anything", stored) is False


@pytest.mark.parametrize(
    "password",
    ["12345678", "x" * 72, "é" * 36, "é" * 35 + "xx", "\N{GRINNING FACE}" * 18, "        ", "\N{GRINNING FACE}" * 8],
)
def test_eight_characters_to_seventy_two_bytes_are_taken_whole(hasher: PasswordHasher, password: str) -> None:
    assert unfit(password) is None
    stored = hasher.hash(password)
    assert hasher.verify(password, stored)
    assert not hasher.verify(password[:-1], stored)


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("", "8 characters"),
        ("1234567", "8 characters"),
        ("\N{GRINNING FACE}" * 7, "8 characters"),  # 28 bytes, but characters are what people count
        ("x" * 73, "72 bytes"),
        ("é" * 36 + "x", "72 bytes"),
        ("\N{GRINNING FACE}" * 18 + "x", "72 bytes"),
        ("pass\x00word", "NUL"),
        ("password\ud800", "Unicode"),
    ],
)
def test_other_passwords_are_refused_and_never_cut(hasher: PasswordHasher, password: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        hasher.hash(password)
    assert refused.value.fields is not None
    assert words in refused.value.fields["password"][0]


def test_a_short_password_may_be_asked_about_though_not_chosen() -> None:
    assert unusable("short") is None
    assert unusable("x" * 73) is not None


def test_a_password_beyond_bcrypts_reach_is_nobodys(hasher: PasswordHasher) -> None:
    stored = hasher.hash("x" * 72)
    assert not hasher.verify("x" * 73, stored)
    assert not hasher.verify("x\ud800", stored)


def test_in_plain_threads_the_queue_is_bounded_and_empties() -> None:
    hasher = PasswordHasher(queue=1, rounds=10)
    together = threading.Barrier(8)
    hashed: list[str] = []
    refused: list[Overloaded] = []

    def one_more() -> None:
        together.wait(timeout=30)
        try:
            hashed.append(hasher.hash("correct horse"))
        except Overloaded as error:
            refused.append(error)

    threads = [threading.Thread(target=one_more) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(hashed) + len(refused) == 8
    assert len(hashed) >= 2
    assert refused
    assert {error.retry_after for error in refused} == {1}
    assert hasher.verify("correct horse", hashed[0])  # there is room again


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import json, gevent, psutil
from app.errors import Overloaded
from app.services.passwords import PasswordHasher

hasher = PasswordHasher(queue=2, rounds=11)
threads_before = psutil.Process().num_threads()
jobs = [gevent.spawn(hasher.hash, "correct horse") for _ in range(3)]
gevent.sleep(0)  # each has taken its place
try:
    hasher.verify("correct horse", None)
    refused = None
except Overloaded as error:
    refused = error.retry_after

ticks = 0
most_threads = threads_before
while not all(job.ready() for job in jobs) and ticks < 1_000_000:
    ticks += 1
    most_threads = max(most_threads, psutil.Process().num_threads())
    gevent.sleep(0.001)
hashes = [job.get() for job in jobs]
print(json.dumps({
    "refused": refused,
    "ticks": ticks,
    "threads": most_threads - threads_before,
    "right": all(hasher.verify("correct horse", stored) for stored in hashes),
    "wrong": hasher.verify("another horse", hashes[0]),
}))
"""


def test_under_gevent_the_loop_goes_on_and_the_queue_is_bounded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    # A loop that bcrypt blocked would come round once a hash: three times.
    assert seen["ticks"] > 10
    assert seen == {"refused": 1, "ticks": seen["ticks"], "threads": 1, "right": True, "wrong": False}
    assert done.stderr == ""
