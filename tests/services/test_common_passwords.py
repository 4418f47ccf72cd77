"""Passwords that attackers try first."""

import time

import pytest

from app.services.common_passwords import is_common
from app.services.passwords import unacceptable_reason


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "Password1",
        "P@ssw0rd",
        "p@$$w0rd1234!",
        "PASSWORD123!",
        "12345678",
        "87654321",
        "890123456789",
        "xyzabcdef",
        "\N{FULLWIDTH LATIN SMALL LETTER P}assword1",
        "qwertyuiop",
        "Qwerty123",
        "1q2w3e4r",
        "abcdefgh",
        "iloveyou1",
        "letmein2024",
        "!!dragon!!",
        "trustno1trustno1",
        "x" * 72,
        "        ",
        "ab1ab1ab1",
        "\N{GRINNING FACE}" * 8,
    ],
)
def test_common_password_may_not_be_chosen(password: str) -> None:
    assert is_common(password)
    assert "common" in str(unacceptable_reason(password))


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "a long password",
        "eleven purple otters",
        "k3v9w2qz",
        "xQ4$7!9*",
        "5ebe2294ecd0e0f0",
        "p\u00e4ssword 1",
    ],
)
def test_other_password_may_be_chosen(password: str) -> None:
    assert not is_common(password)
    assert unacceptable_reason(password) is None


def test_check_is_fast_for_every_password() -> None:
    """The last one takes an estimator two seconds."""
    is_common("first use reads the list")
    started = time.process_time()
    for password in ("a" * 71 + "b", "1a" * 36, "ab1!" * 18, "4@8({[<369&1!|0$5+7%2" * 3):
        for _ in range(25):
            is_common(password)
    assert (time.process_time() - started) / 100 < 0.005
