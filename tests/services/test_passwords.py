"""Passwords: their rules, and hashing without blocking."""

import json
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import bcrypt
import pytest

from app.errors import InvalidInput, Overloaded
from app.services.passwords import DUMMY_HASH, ROUNDS, PasswordHasher, invalid_reason, unacceptable_reason

ROOT = Path(__file__).parents[2]


# 72 bytes of one, two and four bytes per character.
ASCII_72 = "correct horse battery " * 3 + "staple"
ACCENTED_72 = "éàüöñçøåßœæþ" + "éàüöñçøåßœæþ"[::-1] + "ðýžšćłńęąůěř"
SMILING_72 = "".join(chr(0x1F600 + number) for number in range(18))


@pytest.fixture
def hasher() -> PasswordHasher:
    """Return a fast hasher, for tests that do not depend on the cost."""
    return PasswordHasher(rounds=4)


def test_hash_has_twelve_rounds_and_verifies() -> None:
    hasher = PasswordHasher()
    stored = hasher.hash("correct horse")
    assert stored.startswith("$2b$12$")
    assert len(stored) == 60
    assert hasher.verify("correct horse", stored)
    assert not hasher.verify("correct horsf", stored)


def test_dummy_hash_costs_as_much_as_real_one() -> None:
    assert DUMMY_HASH.split("$")[1:3] == ["2b", str(ROUNDS)]
    assert len(DUMMY_HASH) == 60


@pytest.mark.parametrize("stored", [None, "", "!", "$2b$04$short", "\N{SNOWMAN}" * 60])
def test_invalid_hash_matches_nothing(hasher: PasswordHasher, stored: str | None) -> None:
    assert hasher.verify("anything", stored) is False


@pytest.mark.parametrize(
    "password",
    [
        "k3v9 w2q",
        ASCII_72,
        ACCENTED_72,
        ACCENTED_72[:-1] + "xx",
        SMILING_72,
        "k       ",
        SMILING_72[:8],
    ],
)
def test_passwords_of_8_characters_to_72_bytes_are_accepted(hasher: PasswordHasher, password: str) -> None:
    assert unacceptable_reason(password) is None
    stored = hasher.hash(password)
    assert hasher.verify(password, stored)
    assert not hasher.verify(password[:-1], stored)


@pytest.mark.parametrize(
    ("password", "text"),
    [
        ("", "8 characters"),
        ("1234567", "8 characters"),
        ("\N{GRINNING FACE}" * 7, "8 characters"),  # 28 bytes, but 7 characters
        ("x" * 73, "72 bytes"),
        ("é" * 36 + "x", "72 bytes"),
        ("\N{GRINNING FACE}" * 18 + "x", "72 bytes"),
        ("pass\x00word", "NUL"),
        ("password\ud800", "Unicode"),
    ],
)
def test_other_passwords_are_rejected(hasher: PasswordHasher, password: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        hasher.hash(password)
    assert refused.value.fields is not None
    assert text in refused.value.fields["password"][0]


def test_short_password_can_be_verified_but_not_chosen() -> None:
    assert invalid_reason("short") is None
    assert invalid_reason("x" * 73) is not None


ACCENTED = "crème brûlée à deux"


@pytest.mark.parametrize("chosen", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_password_matches_in_both_unicode_forms(hasher: PasswordHasher, chosen: str, typed: str) -> None:
    password = unicodedata.normalize(typed, ACCENTED)
    assert hasher.verify(password, hasher.hash(unicodedata.normalize(chosen, ACCENTED)))
    # A release before hashed the password as it was sent.
    old = bcrypt.hashpw(unicodedata.normalize(chosen, ACCENTED).encode(), bcrypt.gensalt(4)).decode()
    assert hasher.verify(password, old)


@pytest.mark.parametrize(
    "password", ["correct horse", ACCENTED, unicodedata.normalize("NFD", ACCENTED), "e\u0301è" * 4]
)
def test_wrong_password_costs_as_much_for_unknown_account(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    stored = hasher.hash("another password")
    checked = list[bytes]()
    monkeypatch.setattr(bcrypt, "checkpw", lambda sent, _stored: checked.append(sent))
    assert not hasher.verify(password, stored)
    known = checked.copy()
    assert not hasher.verify(password, None)
    assert checked == known * 2
    assert len(known) == len({unicodedata.normalize(form, password) for form in ("NFC", "NFD")} | {password})


def test_password_is_measured_in_its_composed_form(hasher: PasswordHasher) -> None:
    """72 bytes as NFC are 108 as NFD, which a keyboard may send."""
    password = unicodedata.normalize("NFD", ACCENTED_72)
    assert unacceptable_reason(password) is None
    assert hasher.verify(password, hasher.hash(password))
    assert "8 characters" in str(unacceptable_reason(unicodedata.normalize("NFD", "é" * 7)))


def test_too_long_password_matches_nothing(hasher: PasswordHasher) -> None:
    stored = hasher.hash(ASCII_72)
    assert not hasher.verify(ASCII_72 + "x", stored)
    assert not hasher.verify("x\ud800", stored)


def test_queue_is_bounded_in_threads() -> None:
    hasher = PasswordHasher(queue=1, rounds=10)
    barrier = threading.Barrier(8)
    hashed: list[str] = []
    refused: list[Overloaded] = []

    def hash_one() -> None:
        barrier.wait(timeout=30)
        try:
            hashed.append(hasher.hash("correct horse"))
        except Overloaded as error:
            refused.append(error)

    threads = [threading.Thread(target=hash_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(hashed) + len(refused) == 8
    assert len(hashed) >= 2
    assert refused
    assert {error.retry_after for error in refused} == {1}
    assert hasher.verify("correct horse", hashed[0])  # the queue has space again


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import json, gevent, psutil
from app.errors import Overloaded
from app.services.passwords import PasswordHasher

hasher = PasswordHasher(queue=2, rounds=11)
threads_before = psutil.Process().num_threads()
jobs = [gevent.spawn(hasher.hash, "correct horse") for _ in range(3)]
gevent.sleep(0)  # each has taken a slot
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


def test_hashing_does_not_block_gevent_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    # A loop that bcrypt blocks would tick once per hash: three times.
    assert seen["ticks"] > 10
    assert seen == {"refused": 1, "ticks": seen["ticks"], "threads": 1, "right": True, "wrong": False}
    assert done.stderr == ""
