"""Guessing passwords: stopped by account and by address, without telling which accounts there are, and without locking
an owner out of where they are known."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Limits, Settings
from app.errors import TooManyAttempts
from app.extensions import db
from app.factory import create_app
from app.services.attempts import Attempts
from app.services.limit_counters import LimitCounters
from app.services.passwords import PasswordHasher
from tests.factories import PASSWORD, Account

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.{}"
NOBODY = "nobody-has-this-address@example.org"


@pytest.fixture
def make_client(settings: Settings, flask_app: Flask) -> Iterator[Callable[..., FlaskClient]]:
    """A function that makes an application with nothing counted yet; keyword arguments are its limits."""
    made: list[Flask] = []

    def make(**limits: int) -> FlaskClient:
        made.append(create_app(replace(settings, limits=settings.limits.model_copy(update=limits))))
        return made[-1].test_client()

    yield make
    for each in made:
        with each.app_context():
            db.engine.dispose()


def log_in(client: FlaskClient, email: str, password: str, address: str = HOME) -> Any:
    sent = {"email": email, "password": password}
    return client.post("/api/auth/login", json=sent, environ_overrides={"REMOTE_ADDR": address})


def codes(answers: list[Any]) -> list[tuple[int, str | None]]:
    return [(answer.status_code, answer.json.get("code")) for answer in answers]


WRONG, LOCKED = (401, "not_authenticated"), (429, "too_many_attempts")


def test_an_account_and_one_that_is_none_are_refused_alike(
    make_client: Callable[..., FlaskClient], user: Account
) -> None:
    told: list[list[tuple[int, str, list[str]]]] = []
    for email in (user.email, NOBODY):
        client = make_client(login_failures=3)
        answers = [log_in(client, email, "wrong wrong") for _ in range(5)]
        assert codes(answers) == [WRONG] * 3 + [LOCKED] * 2
        assert all(1 <= int(answer.headers["Retry-After"]) <= 900 for answer in answers[3:])
        told.append(
            [
                (each.status_code, each.json["detail"].split(" in ")[0], sorted(name for name, _ in each.headers))
                for each in answers
            ]
        )
    assert told[0] == told[1]
    # The right password is not looked at, either.
    locked = make_client(login_failures=1)
    assert codes([log_in(locked, user.email, word) for word in ("wrong wrong", PASSWORD)]) == [WRONG, LOCKED]


def test_no_hash_is_computed_for_who_is_refused(
    make_client: Callable[..., FlaskClient], user: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that both kinds take the same time, and guessing costs the guesser more than the server."""
    verified = list[str | None]()
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, password: str, stored: str | None) -> bool:
        verified.append(stored)
        return real(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    client = make_client(login_failures=1)
    for email in (user.email, NOBODY):
        assert codes([log_in(client, email, "wrong wrong") for _ in range(3)]) == [WRONG, LOCKED, LOCKED]
    assert len(verified) == 2
    assert verified[1] is None


def test_spellings_of_an_address_are_one_account(make_client: Callable[..., FlaskClient], user: Account) -> None:
    client = make_client(login_failures=2)
    spellings = [user.email, user.email.upper(), f" {user.email.title()} "]
    assert codes([log_in(client, email, "wrong wrong") for email in spellings]) == [WRONG, WRONG, LOCKED]


def test_only_failures_count(make_client: Callable[..., FlaskClient], user: Account) -> None:
    client = make_client(login_failures=2, login_failures_account=2, login_failures_address=2)
    assert [log_in(client, user.email, PASSWORD).status_code for _ in range(4)] == [200] * 4
    assert log_in(client, user.email, "wrong wrong").status_code == 401
    assert log_in(client, user.email, PASSWORD).status_code == 200


def test_guesses_that_race_are_counted_one_by_one(settings: Settings) -> None:
    """They are counted before any of them is known to be wrong."""
    attempts = Attempts(LimitCounters(), settings.limits.model_copy(update={"login_failures": 5}), "secret")

    def guess(_: int) -> bool:
        try:
            with attempts.at("ada@example.org", HOME, lambda: False) as attempt:
                attempt.failed = True
        except TooManyAttempts:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(guess, range(64))) == 5


def test_somebody_who_knows_the_address_cannot_lock_its_owner_out(
    make_client: Callable[..., FlaskClient], user: Account
) -> None:
    client = make_client(login_failures=3, login_failures_account=6)
    assert log_in(client, user.email, PASSWORD, HOME).status_code == 200
    guessed = [log_in(client, user.email, "wrong wrong", ELSEWHERE.format(n)) for n in range(8)]
    assert codes(guessed) == [WRONG] * 6 + [LOCKED] * 2
    # From where the owner has logged in before it is open, and guessing from there is bounded as ever.
    assert log_in(client, user.email, PASSWORD, HOME).status_code == 200
    assert codes([log_in(client, user.email, "wrong wrong", HOME) for _ in range(4)]) == [WRONG] * 3 + [LOCKED]
    # From somewhere new it is not, until the window ends.
    assert codes([log_in(client, user.email, PASSWORD, "203.0.113.9")]) == [LOCKED]


def test_one_address_cannot_close_an_account_to_others(make_client: Callable[..., FlaskClient], user: Account) -> None:
    """What is refused for the address it comes from does not count against the account."""
    client = make_client(login_failures=2, login_failures_account=4)
    guessed = [log_in(client, user.email, "wrong wrong", ELSEWHERE.format(1)) for _ in range(10)]
    assert codes(guessed) == [WRONG] * 2 + [LOCKED] * 8
    assert log_in(client, user.email, PASSWORD, "203.0.113.9").status_code == 200


def test_one_password_for_many_accounts_is_stopped_by_address(
    make_client: Callable[..., FlaskClient], user: Account
) -> None:
    client = make_client(login_failures_address=4)
    tried = [log_in(client, f"{n}{NOBODY}", "wrong wrong") for n in range(5)]
    assert codes(tried) == [WRONG] * 4 + [LOCKED]
    assert codes([log_in(client, user.email, PASSWORD)]) == [LOCKED]
    assert log_in(client, user.email, PASSWORD, ELSEWHERE.format(1)).status_code == 200


def test_a_stolen_session_does_not_guess_its_password(make_client: Callable[..., FlaskClient], user: Account) -> None:
    client = make_client(login_failures=2)

    def change(current: str) -> Any:
        sent = {"current_password": current, "new_password": "another good one"}
        return client.post("/api/auth/password", json=sent, headers=user.headers)

    assert [change("wrong wrong").status_code for _ in range(3)] == [400, 400, 429]
    assert change(PASSWORD).json["code"] == "too_many_attempts"
    # That is about this session's address and this account; logging in is counted by itself.
    assert log_in(client, user.email, PASSWORD, "127.0.0.1").status_code == 200


def test_accounts_are_opened_slowly(make_client: Callable[..., FlaskClient], engine: Engine, user: Account) -> None:
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
        found = connection.execute(text("SELECT count(*) FROM users WHERE email = :e"), {"e": f"b{user.email}"})
        assert found.scalar_one() == 0
    assert register(f"b{user.email}", ELSEWHERE.format(1)).status_code == 201


def test_a_busy_server_is_no_failure(make_client: Callable[..., FlaskClient], user: Account) -> None:
    client = make_client(login_failures=1)
    passwords = client.application.extensions["parley"].passwords
    places = passwords._places
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    assert [log_in(client, user.email, PASSWORD).status_code for _ in range(3)] == [503] * 3
    for _ in range(taken):
        places.release()
    assert log_in(client, user.email, PASSWORD).status_code == 200


def test_no_address_of_a_person_is_written_where_counts_are() -> None:
    """What is counted under is a keyed hash."""
    seen = list[str]()

    class Noting(LimitCounters):
        def add(self, windows: Any) -> Any:
            seen.extend(key for key, _ in windows)
            return super().add(windows)

    attempts = Attempts(Noting(), Limits(_env_file=None), "secret")  # type: ignore[call-arg]
    with attempts.at("ada@example.org", HOME, lambda: False):
        pass
    assert len(seen) == 3
    assert not [key for key in seen if "ada" in key]
