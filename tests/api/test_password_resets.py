"""Reset of a lost password over HTTP: by an operator's token, and by mail."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, event, text
from werkzeug.test import TestResponse

from app.config import Mail, Settings
from app.database import autocommit
from app.errors import Conflict
from app.extensions import db
from app.factory import create_app
from app.ids import new_id
from app.jobs import INTERACTIVE
from app.logs import redact
from app.outbound.mail import MailFailed
from app.services import password_resets
from app.services.password_resets import MAIL_JOB
from ops.catalogue.declarations import load
from ops.catalogue.jobs import MAIL_PASSWORD_RESET, PURGE_PASSWORD_RESETS
from ops.users.password_resets import mail_token
from tests.api.keys import make_key
from tests.api.responses import assert_problem, bearer
from tests.factories import PASSWORD, LoggedInUser
from tests.fakes.mail_server import MailServer
from tests.jobs.conftest import broker, queue, redis_server
from tests.jobs.test_enqueue import TIMEOUT
from tests.waiting import wait_until

__all__ = ["broker", "queue", "redis_server"]  # fixtures

NEW = "another horse 1"


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def make_mailing_app(settings: Settings, broker: str, flask_app: Flask) -> Iterator[Callable[..., Flask]]:
    """Yield a function that makes an application that sends mail; keyword arguments are its limits."""
    made: list[Flask] = []

    def make(port: int, reset_page: str | None = None, **limits: int) -> Flask:
        url = SecretStr(f"smtp+plain://127.0.0.1:{port}")
        mail = Mail(SMTP_URL=url, MAIL_FROM="parley@example.org", PASSWORD_RESET_URL=reset_page, SMTP_TIMEOUT=3)  # type: ignore[call-arg]
        jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
        changed = settings.limits.model_copy(update=limits)
        made.append(create_app(replace(settings, mail=mail, jobs=jobs, limits=changed)))
        return made[-1]

    yield make
    for application in made:
        with application.app_context():
            db.engine.dispose()


@pytest.fixture
def issue(flask_app: Flask) -> Callable[..., str]:
    """Return a function that issues a token for a user."""

    def issue(user: LoggedInUser, minutes: int = 30) -> str:
        with flask_app.app_context(), autocommit() as connection:
            return password_resets.issue(connection, user.id, minutes=minutes).token

    return issue


def reset(client: FlaskClient, token: Any, password: Any = NEW) -> TestResponse:
    return client.post("/api/auth/password/reset", json={"token": token, "new_password": password})


def request_mail(client: FlaskClient, email: str, address: str = "192.0.2.1") -> TestResponse:
    return client.post(
        "/api/auth/password/reset-requests", json={"email": email}, environ_overrides={"REMOTE_ADDR": address}
    )


def log_in(client: FlaskClient, user: LoggedInUser, password: str) -> int:
    return client.post("/api/auth/login", json={"email": user.email, "password": password}).status_code


def run(engine: Engine, statement: str, **parameters: Any) -> list[Any]:
    with engine.begin() as connection:
        result = connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else []


@contextmanager
def recorded(engine: Engine) -> Iterator[list[str]]:
    """Yield a list of the statements that are sent in the block."""
    statements: list[str] = []

    def record(*arguments: Any) -> None:
        statements.append(arguments[2].split(" rid=")[0])

    event.listen(engine, "before_cursor_execute", record)
    yield statements
    event.remove(engine, "before_cursor_execute", record)


def assert_invalid(response: TestResponse) -> None:
    problem = assert_problem(response, 400, "invalid_input")
    [message] = problem["errors"]["token"]
    assert message.startswith("This token is not valid")


def test_token_sets_the_password_and_ends_all_sessions(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser, issue: Callable[..., str]
) -> None:
    key, other, token = make_key(flask_app, user), issue(user), issue(user)
    response = reset(client, token)
    assert (response.status_code, response.data) == (204, b"")
    assert client.get("/api/auth/me", headers=user.headers).status_code == 401
    assert client.get("/api/conversations", headers=bearer(key.secret)).status_code == 200
    assert (log_in(client, user, NEW), log_in(client, user, PASSWORD)) == (200, 401)
    for used in (token, other):  # all tokens of the user end
        assert_invalid(reset(client, used, "yet another 1"))
    assert log_in(client, user, NEW) == 200
    audited = run(engine, "SELECT action, details FROM audit_events WHERE target = :u", u=str(user.id))
    assert [tuple(row) for row in audited] == [("user.reset_password", {})]


def test_token_is_used_once_in_parallel(flask_app: Flask, user: LoggedInUser, issue: Callable[..., str]) -> None:
    token = issue(user)
    with ThreadPoolExecutor(4) as threads:
        statuses = list(
            threads.map(lambda n: reset(flask_app.test_client(), token, f"another horse {n}").status_code, range(4))
        )
    assert sorted(statuses) == [204, 400, 400, 400]
    logins = [log_in(flask_app.test_client(), user, f"another horse {n}") for n in range(4)]
    assert logins == [200 if status == 204 else 401 for status in statuses]


def test_expired_token_is_refused_and_purged(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser, issue: Callable[..., str]
) -> None:
    token = issue(user)
    run(engine, "UPDATE password_resets SET expires_at = now() WHERE user_id = :u", u=user.id)
    assert_invalid(reset(client, token))
    kept = issue(user)
    with flask_app.app_context():
        assert load(PURGE_PASSWORD_RESETS.function)(dry_run=True).deleted >= 1
        load(PURGE_PASSWORD_RESETS.function)()
    assert len(run(engine, "SELECT 1 FROM password_resets WHERE user_id = :u", u=user.id)) == 1
    assert reset(client, kept).status_code == 204


def test_token_of_another_user_or_forged_is_refused(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, issue: Callable[..., str]
) -> None:
    token, foreign = issue(user), issue(other_user)
    ids, secret = token.removeprefix("prr_")[:43], token[-43:]
    forged = [
        f"prr_{ids}_{'A' * 43}",
        f"prr_{foreign[4:47]}_{secret}",
        token[:-1],
        token + "A",
        token.swapcase(),
        f" {token}",
        f"prr_{'A' * 43}_{'A' * 43}",
        "x",
    ]
    for forgery in forged:
        assert_invalid(reset(client, forgery))
    assert (log_in(client, user, PASSWORD), log_in(client, other_user, PASSWORD)) == (200, 200)
    assert reset(client, token).status_code == 204
    assert log_in(client, other_user, PASSWORD) == 200


@pytest.mark.parametrize("password", ["short", "password1", "x" * 73, "", None, 5])
def test_unacceptable_password_keeps_the_token(
    client: FlaskClient, user: LoggedInUser, issue: Callable[..., str], password: Any
) -> None:
    token = issue(user)
    assert list(assert_problem(reset(client, token, password), 400, "invalid_input")["errors"]) == ["new_password"]
    assert reset(client, token).status_code == 204


@pytest.mark.parametrize("token", ["", None, 5, [], "x" * 101, "a\0b"])
def test_malformed_token_is_400(client: FlaskClient, token: Any) -> None:
    assert list(assert_problem(reset(client, token), 400, "invalid_input")["errors"]) == ["token"]


def test_change_of_password_ends_tokens(client: FlaskClient, user: LoggedInUser, issue: Callable[..., str]) -> None:
    token = issue(user)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert client.post("/api/auth/password", json=body, headers=user.headers).status_code == 204
    assert_invalid(reset(client, token, "yet another 1"))


def test_disabled_user_gets_no_token_and_uses_none(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser, issue: Callable[..., str]
) -> None:
    token = issue(user)
    run(engine, "UPDATE users SET status = 'disabled' WHERE id = :u", u=user.id)
    assert_invalid(reset(client, token))
    with pytest.raises(Conflict, match="disabled"):
        issue(user)


def test_token_is_not_logged_and_not_stored(engine: Engine, user: LoggedInUser, issue: Callable[..., str]) -> None:
    token = issue(user)
    assert token not in redact(f"reset with {token} failed")
    [row] = run(engine, "SELECT * FROM password_resets WHERE user_id = :u", u=user.id)
    assert not [value for value in row if token[-43:] in str(value)]


def test_without_mail_server_request_is_409(client: FlaskClient, user: LoggedInUser) -> None:
    problem = assert_problem(request_mail(client, user.email), 409, "mail_off")
    assert "ask an operator" in problem["detail"]


def test_mail_goes_to_the_stored_address_and_resets_the_password(
    make_mailing_app: Callable[..., Flask],
    mail_server: MailServer,
    user: LoggedInUser,
    queue: "redis.Redis[bytes]",
) -> None:
    application = make_mailing_app(mail_server.port, "https://chat.example.org/reset")
    client = application.test_client()
    queue.delete(INTERACTIVE)
    typed = user.email.upper()
    response = request_mail(client, typed)
    assert (response.status_code, response.data) == (204, b"")
    assert application.extensions["jobs"].drain(TIMEOUT)
    [message] = [orjson.loads(raw) for raw in queue.lrange(INTERACTIVE, 0, -1)]
    assert message["headers"]["task"] == MAIL_PASSWORD_RESET.name == MAIL_JOB
    assert message["headers"]["kwargsrepr"] == repr({"user_id": str(user.id)})
    with application.app_context():
        assert mail_token(user_id=str(user.id)).sent
    [received] = mail_server.received
    assert received.recipients == [user.email]
    body = "\n".join(received.message.get_content().splitlines())
    link = re.search(r"^https://chat\.example\.org/reset#token=(prr_\S+)$", body, re.MULTILINE)
    assert link is not None, body
    assert user.name not in body  # which a stranger could have chosen
    assert reset(client, link[1]).status_code == 204
    assert log_in(client, user, NEW) == 200


def test_mail_without_page_has_the_token(
    make_mailing_app: Callable[..., Flask], mail_server: MailServer, user: LoggedInUser
) -> None:
    application = make_mailing_app(mail_server.port)
    with application.app_context():
        mail_token(user_id=str(user.id))
    body = "\n".join(mail_server.received[0].message.get_content().splitlines())
    assert re.search(r"^prr_\S+$", body, re.MULTILINE)
    assert "http" not in body


def test_unknown_address_does_the_same_work_and_gets_no_mail(
    make_mailing_app: Callable[..., Flask],
    mail_server: MailServer,
    engine: Engine,
    user: LoggedInUser,
    queue: "redis.Redis[bytes]",
) -> None:
    application = make_mailing_app(mail_server.port)
    client = application.test_client()
    disabled = user
    seen: list[tuple[Any, ...]] = []
    for email in ("unknown@example.org", user.email):
        queue.delete(INTERACTIVE)
        with application.app_context(), recorded(db.engine) as statements:
            response = request_mail(client, email)
        assert application.extensions["jobs"].drain(TIMEOUT)
        [message] = [orjson.loads(raw) for raw in queue.lrange(INTERACTIVE, 0, -1)]
        sent = (message["headers"]["task"], len(message["body"]))
        seen.append((response.status_code, response.data, set(response.headers.keys()), statements, sent))
        assert email not in str(message)
    assert seen[0] == seen[1]
    assert len(seen[0][3]) == 1
    with application.app_context():
        assert not mail_token(user_id=str(new_id())).sent
        run(engine, "UPDATE users SET status = 'disabled' WHERE id = :u", u=disabled.id)
        assert not mail_token(user_id=str(disabled.id)).sent
    assert mail_server.received == []


def test_requests_are_limited_alike_for_known_and_unknown_accounts(
    make_mailing_app: Callable[..., Flask], mail_server: MailServer, user: LoggedInUser
) -> None:
    client = make_mailing_app(mail_server.port, resets_account_per_hour=2, resets_per_hour=0).test_client()
    answers = []
    for email in ("unknown@example.org", user.email):
        responses = [request_mail(client, email, f"192.0.2.{number}") for number in range(3)]
        answers.append([(response.status_code, (response.json or {}).get("code")) for response in responses])
    assert answers[0] == answers[1] == [(204, None), (204, None), (429, "too_many_attempts")]


def test_requests_from_one_address_are_limited(make_mailing_app: Callable[..., Flask], mail_server: MailServer) -> None:
    client = make_mailing_app(mail_server.port, resets_account_per_hour=0, resets_per_hour=2).test_client()
    statuses = [request_mail(client, f"unknown{number}@example.org").status_code for number in range(3)]
    assert statuses == [204, 204, 429]
    assert request_mail(client, "unknown@example.org", "198.51.100.1").status_code == 204


def test_failed_mail_is_audited_without_the_address(
    make_mailing_app: Callable[..., Flask], engine: Engine, user: LoggedInUser
) -> None:
    with MailServer(replies={"RCPT": f"550 {user.email} is unknown"}) as server:
        application = make_mailing_app(server.port)
        with application.app_context(), pytest.raises(MailFailed, match="550"):
            mail_token(user_id=str(user.id))
    [row] = run(engine, "SELECT * FROM audit_events WHERE target = :u", u=str(user.id))
    assert (row.action, row.result) == ("user.mail_password_reset", "failed")
    assert user.email not in str(row)


def test_no_connection_is_held_while_a_mail_is_sent(make_mailing_app: Callable[..., Flask], user: LoggedInUser) -> None:
    with MailServer(silent=frozenset({"DATA"})) as server:
        application = make_mailing_app(server.port)
        with application.app_context():
            pool: Any = db.engine.pool

        def send() -> None:
            with application.app_context(), pytest.raises(MailFailed):
                mail_token(user_id=str(user.id))

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: "data" in server.commands)
        held = pool.checkedout()
        thread.join()
    assert held == 0


def test_token_of_erased_user_is_refused(
    client: FlaskClient, engine: Engine, user: LoggedInUser, issue: Callable[..., str]
) -> None:
    token = issue(user)
    run(engine, "DELETE FROM users WHERE id = :u", u=user.id)
    assert run(engine, "SELECT 1 FROM password_resets WHERE user_id = :u", u=user.id) == []
    assert_invalid(reset(client, token))
