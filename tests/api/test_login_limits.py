"""Limits of failed logins: by account and by address, without revealing accounts, and without locking owners out."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Limits, Settings
from app.database import autocommit
from app.errors import Overloaded, TooManyAttempts
from app.extensions import db
from app.factory import create_app
from app.services import attempts as attempts_module
from app.services import password_resets
from app.services.attempts import AttemptLimits
from app.services.limit_counters import LimitCounters
from app.services.passwords import PasswordHasher
from tests.factories import PASSWORD, PASSWORD_HASH, LoggedInUser

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.{}"
UNKNOWN = "unknown@example.org"


@pytest.fixture
def make_client(settings: Settings, flask_app: Flask) -> Iterator[Callable[..., FlaskClient]]:
    """Yield a function that makes an application with empty counters; keyword arguments are its limits."""
    made: list[Flask] = []

    def make(**limits: int) -> FlaskClient:
        made.append(create_app(replace(settings, limits=settings.limits.model_copy(update=limits))))
        return made[-1].test_client()

    yield make
    for flask_app in made:
        with flask_app.app_context():
            db.engine.dispose()


def log_in(client: FlaskClient, email: str, password: str, address: str = HOME) -> Any:
    sent = {"email": email, "password": password}
    return client.post("/api/auth/login", json=sent, environ_overrides={"REMOTE_ADDR": address})


def codes(answers: list[Any]) -> list[tuple[int, str | None]]:
    return [(answer.status_code, answer.json.get("code")) for answer in answers]


WRONG, LOCKED = (401, "not_authenticated"), (429, "too_many_attempts")


def test_known_and_unknown_account_are_locked_alike(
    make_client: Callable[..., FlaskClient], user: LoggedInUser
) -> None:
    responses: list[list[tuple[int, str, list[str]]]] = []
    for email in (user.email, UNKNOWN):
        client = make_client(login_failures=3)
        answers = [log_in(client, email, "wrong wrong") for _ in range(5)]
        assert codes(answers) == [WRONG] * 3 + [LOCKED] * 2
        assert all(1 <= int(answer.headers["Retry-After"]) <= 900 for answer in answers[3:])
        responses.append(
            [
                (answer.status_code, answer.json["detail"].split(" in ")[0], sorted(name for name, _ in answer.headers))
                for answer in answers
            ]
        )
    assert responses[0] == responses[1]
    # The right password is not verified either.
    locked = make_client(login_failures=1)
    assert codes([log_in(locked, user.email, word) for word in ("wrong wrong", PASSWORD)]) == [WRONG, LOCKED]


def test_locked_login_verifies_no_password(
    make_client: Callable[..., FlaskClient], user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rejection takes the same time for both, and costs the server little."""
    verified = list[str | None]()
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, password: str, stored: str | None) -> bool:
        verified.append(stored)
        return real(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    client = make_client(login_failures=1)
    for email in (user.email, UNKNOWN):
        assert codes([log_in(client, email, "wrong wrong") for _ in range(3)]) == [WRONG, LOCKED, LOCKED]
    assert len(verified) == 2
    assert verified[1] is None


def test_spellings_of_email_count_as_one_account(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(login_failures=2)
    spellings = [user.email, user.email.upper(), f" {user.email.title()} ", user.email.replace("@", "\u200b\uff20")]
    assert codes([log_in(client, email, "wrong wrong") for email in spellings]) == [WRONG, WRONG, LOCKED, LOCKED]


def test_successful_logins_do_not_count(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(login_failures=2, login_failures_account=2, login_failures_address=2)
    assert [log_in(client, user.email, PASSWORD).status_code for _ in range(4)] == [200] * 4
    assert log_in(client, user.email, "wrong wrong").status_code == 401
    assert log_in(client, user.email, PASSWORD).status_code == 200


def test_concurrent_guesses_are_counted_exactly(settings: Settings) -> None:
    """A try counts before its password is verified."""
    attempts = AttemptLimits(LimitCounters(), settings.limits.model_copy(update={"login_failures": 5}), "secret")

    def guess(_: int) -> bool:
        try:
            with attempts.password_check("ada@example.org", HOME, lambda: False) as attempt:
                attempt.failed = True
        except TooManyAttempts:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(guess, range(64))) == 5


def test_right_logins_at_once_are_not_rejected(
    make_client: Callable[..., FlaskClient], user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try waits while the others are being verified; only wrong passwords count."""
    verify = PasswordHasher.verify

    def slow_verify(self: PasswordHasher, password: str, stored: str | None) -> bool:
        time.sleep(0.05)
        return password == PASSWORD if stored == PASSWORD_HASH else verify(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", slow_verify)
    flask_app = make_client(login_failures=3, login_failures_account=4, login_failures_address=5).application
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: log_in(flask_app.test_client(), user.email, PASSWORD), range(30)))
        assert [answer.status_code for answer in answers] == [200] * 30
        wrong = list(pool.map(lambda _: log_in(flask_app.test_client(), user.email, "wrong wrong"), range(30)))
    assert sorted(codes(wrong)) == [WRONG] * 3 + [LOCKED] * 27


def test_try_without_outcome_is_overload_in_the_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "PATIENCE", 0.1)
    limits = settings.limits.model_copy(update={"login_failures": 1})
    attempts = AttemptLimits(LimitCounters(), limits, "secret")
    with (
        attempts.password_check("ada@example.org", HOME, lambda: False),
        pytest.raises(Overloaded),
        attempts.password_check("ada@example.org", HOME, lambda: False),
    ):
        pass
    with attempts.password_check("ada@example.org", HOME, lambda: False):
        pass


def test_owner_can_log_in_from_known_address_of_locked_account(
    make_client: Callable[..., FlaskClient], user: LoggedInUser
) -> None:
    client = make_client(login_failures=3, login_failures_account=6)
    assert log_in(client, user.email, PASSWORD, HOME).status_code == 200
    guessed = [log_in(client, user.email, "wrong wrong", ELSEWHERE.format(n)) for n in range(8)]
    assert codes(guessed) == [WRONG] * 6 + [LOCKED] * 2
    # An address of earlier logins is not locked, and has its own limit as before.
    assert log_in(client, user.email, PASSWORD, HOME).status_code == 200
    assert codes([log_in(client, user.email, "wrong wrong", HOME) for _ in range(4)]) == [WRONG] * 3 + [LOCKED]
    # A new address is locked until the window ends.
    assert codes([log_in(client, user.email, PASSWORD, "203.0.113.9")]) == [LOCKED]


def test_reset_of_password_ends_the_wait(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    """Failures from other addresses and with other accounts still count where they came from."""
    client = make_client(login_failures=2, login_failures_account=4, login_failures_address=4)
    for address in (HOME, ELSEWHERE.format(1)):
        guessed = [log_in(client, user.email, "wrong wrong", address) for _ in range(3)]
        assert codes(guessed) == [WRONG] * 2 + [LOCKED]
    assert codes([log_in(client, user.email, PASSWORD, "203.0.113.9")]) == [LOCKED]
    with client.application.app_context(), autocommit() as connection:
        token = password_resets.issue(connection, user.id, minutes=5).token
    new = "another good one"
    done = client.post(
        "/api/auth/password/reset",
        json={"token": token, "new_password": new},
        environ_overrides={"REMOTE_ADDR": HOME},
    )
    assert done.status_code == 204
    assert log_in(client, user.email, new, HOME).status_code == 200
    assert log_in(client, user.email, new, "203.0.113.9").status_code == 200
    assert codes([log_in(client, user.email, new, ELSEWHERE.format(1))]) == [LOCKED]
    assert codes([log_in(client, f"{n}{UNKNOWN}", "wrong wrong", HOME) for n in range(3)]) == [WRONG] * 2 + [LOCKED]


def test_one_address_cannot_lock_account_for_others(
    make_client: Callable[..., FlaskClient], user: LoggedInUser
) -> None:
    """A try that the address limit rejects does not count for the account."""
    client = make_client(login_failures=2, login_failures_account=4)
    guessed = [log_in(client, user.email, "wrong wrong", ELSEWHERE.format(1)) for _ in range(10)]
    assert codes(guessed) == [WRONG] * 2 + [LOCKED] * 8
    assert log_in(client, user.email, PASSWORD, "203.0.113.9").status_code == 200


def test_password_spraying_is_limited_by_address(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(login_failures_address=4)
    tried = [log_in(client, f"{n}{UNKNOWN}", "wrong wrong") for n in range(5)]
    assert codes(tried) == [WRONG] * 4 + [LOCKED]
    assert codes([log_in(client, user.email, PASSWORD)]) == [LOCKED]
    assert log_in(client, user.email, PASSWORD, ELSEWHERE.format(1)).status_code == 200


def test_wrong_current_passwords_are_limited(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(login_failures=2)

    def change(current: str) -> Any:
        sent = {"current_password": current, "new_password": "another good one"}
        return client.post("/api/auth/password", json=sent, headers=user.headers)

    assert [change("wrong wrong").status_code for _ in range(3)] == [400, 400, 429]
    assert change(PASSWORD).json["code"] == "too_many_attempts"
    # Logins have a counter of their own.
    assert log_in(client, user.email, PASSWORD, "127.0.0.1").status_code == 200


def test_registrations_are_limited_by_address(
    make_client: Callable[..., FlaskClient], engine: Engine, user: LoggedInUser
) -> None:
    client = make_client(register_per_hour=2)

    def register(email: str, address: str = HOME) -> Any:
        sent = {"email": email, "password": PASSWORD, "name": "Ada"}
        return client.post("/api/auth/register", json=sent, environ_overrides={"REMOTE_ADDR": address})

    assert register(f"a{user.email}").status_code == 201
    assert register(user.email).status_code == 409
    refused = register(f"b{user.email}")
    assert (refused.status_code, refused.json["code"]) == (429, "too_many_attempts")
    assert "accounts" in refused.json["detail"]
    with engine.connect() as connection:
        users = connection.execute(text("SELECT count(*) FROM users WHERE email = :e"), {"e": f"b{user.email}"})
        assert users.scalar_one() == 0
    assert register(f"b{user.email}", ELSEWHERE.format(1)).status_code == 201


def test_overload_does_not_count_as_failure(make_client: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = make_client(login_failures=1)
    passwords = client.application.extensions["parley"].passwords
    slots = passwords._slots
    taken = 0
    while slots.acquire(blocking=False):
        taken += 1
    assert [log_in(client, user.email, PASSWORD).status_code for _ in range(3)] == [503] * 3
    for _ in range(taken):
        slots.release()
    assert log_in(client, user.email, PASSWORD).status_code == 200


def test_counter_keys_contain_no_email() -> None:
    """Keys of counters contain a keyed hash of the address."""
    seen = list[str]()

    class RecordingCounters(LimitCounters):
        def add(self, windows: Any) -> Any:
            seen.extend(key for key, _ in windows)
            return super().add(windows)

    attempts = AttemptLimits(RecordingCounters(), Limits.model_validate({}), "secret")
    with attempts.password_check("ada@example.org", HOME, lambda: False):
        pass
    assert len(seen) == 3
    assert not [key for key in seen if "ada" in key]
