"""The account over HTTP: registration, login, name, password and logout."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.errors import Overloaded
from app.services.passwords import PasswordHasher
from tests.api.responses import assert_problem, bearer
from tests.factories import PASSWORD, LoggedInUser


def new_email() -> str:
    return f"{uuid4().hex}@example.org"


class RecordingHasher(PasswordHasher):
    """A hasher that records its calls, and how many database connections were in use during each."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.verified: list[str] = []
        self.hashed = 0
        self.connections_in_use: list[int] = []
        self._engine = engine

    def hash(self, password: str) -> str:
        self.hashed += 1
        self.connections_in_use.append(self._engine.pool.checkedout())  # type: ignore[attr-defined]
        return super().hash(password)

    def verify(self, password: str, stored: str | None) -> bool:
        self.verified.append(password)
        self.connections_in_use.append(self._engine.pool.checkedout())  # type: ignore[attr-defined]
        return super().verify(password, stored)


class FullHasher(PasswordHasher):
    """A hasher with a full queue."""

    def __init__(self) -> None:
        super().__init__(queue=0)
        self._slots.acquire()


@pytest.fixture
def use_hasher(flask_app: Flask) -> Iterator[Callable[[PasswordHasher], None]]:
    """Yield a function that replaces the application's hasher until the test ends."""
    before = flask_app.extensions["parley"]

    def use(hasher: PasswordHasher) -> None:
        flask_app.extensions["parley"] = replace(before, passwords=hasher)

    yield use
    flask_app.extensions["parley"] = before


@pytest.fixture
def recorder(use_hasher: Callable[[PasswordHasher], None], engine: Engine) -> RecordingHasher:
    hasher = RecordingHasher(engine)
    use_hasher(hasher)
    return hasher


def count(engine: Engine, sql: str, **parameters: Any) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(sql), parameters).scalar_one())


def test_register_login_and_change_password(client: FlaskClient, engine: Engine, recorder: RecordingHasher) -> None:
    email = f"Ada.{new_email()}"
    registered = client.post(
        "/api/auth/register",
        json={"email": email, "password": "pässword 1", "name": " Ada 🦉 "},
        headers={"User-Agent": "test"},
    )
    assert registered.status_code == 201, registered.text
    assert registered.headers["Cache-Control"] == "no-store"
    body = registered.json
    assert body is not None
    assert set(body) == {"user", "access_token", "refresh_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 15 * 60)
    assert set(body["user"]) == {"id", "email", "name", "role", "created_at", "updated_at"}
    assert (body["user"]["email"], body["user"]["name"], body["user"]["role"]) == (email, " Ada 🦉 ", "user")

    me = client.get("/api/auth/me", headers=bearer(body["access_token"]))
    storage = {"used_bytes": 0, "max_bytes": 1_000_000_000}
    assert me.json == {**body["user"], "storage": storage}

    logged_in = client.post("/api/auth/login", json={"email": email.upper(), "password": "pässword 1"})
    assert logged_in.status_code == 200
    assert logged_in.json is not None
    assert logged_in.json["user"] == body["user"]

    changed = client.post(
        "/api/auth/password",
        json={"current_password": "pässword 1", "new_password": "another horse"},
        headers=bearer(logged_in.json["access_token"]),
    )
    assert (changed.status_code, changed.data) == (204, b"")
    for tokens in (body, logged_in.json):
        assert_problem(client.get("/api/auth/me", headers=bearer(tokens["access_token"])), 401, "not_authenticated")
        assert_problem(
            client.post("/api/auth/refresh", headers=bearer(tokens["refresh_token"])), 401, "not_authenticated"
        )
    old = client.post("/api/auth/login", json={"email": email, "password": "pässword 1"})
    assert_problem(old, 401, "not_authenticated")
    new = client.post("/api/auth/login", json={"email": email, "password": "another horse"})
    assert new.status_code == 200

    assert recorder.connections_in_use == [0] * 6  # no connection is held while a password is hashed
    sessions = "SELECT count(*) FROM sessions WHERE user_id = :u"
    assert count(engine, sessions, u=UUID(body["user"]["id"])) == 3
    assert count(engine, sessions + " AND user_agent = 'test' AND address = '127.0.0.1'", u=body["user"]["id"]) == 1


def test_register_email_in_other_case_is_conflict(
    client: FlaskClient, engine: Engine, user: LoggedInUser, use_hasher: Callable[[PasswordHasher], None]
) -> None:
    use_hasher(PasswordHasher(rounds=4))
    body = {"email": user.email.upper(), "password": PASSWORD, "name": "Eve"}
    assert_problem(client.post("/api/auth/register", json=body), 409, "email_taken")
    assert count(engine, "SELECT count(*) FROM users WHERE lower(email) = :e", e=user.email) == 1


def test_parallel_registrations_of_one_email_create_one_user(
    flask_app: Flask, engine: Engine, use_hasher: Callable[[PasswordHasher], None]
) -> None:
    use_hasher(PasswordHasher(rounds=4))
    email = new_email()
    spellings = [email, email.upper(), email.title(), email.capitalize()]

    def register(spelling: str) -> int:
        body = {"email": spelling, "password": PASSWORD, "name": "Ada"}
        return flask_app.test_client().post("/api/auth/register", json=body).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(pool.map(register, spellings))
    assert statuses == [201, 409, 409, 409]
    assert count(engine, "SELECT count(*) FROM users WHERE lower(email) = :e", e=email) == 1
    assert (
        count(engine, "SELECT count(*) FROM sessions JOIN users ON users.id = user_id WHERE lower(email) = :e", e=email)
        == 1
    )


GOOD = {"email": "ada@example.org", "password": "long enough", "name": "Ada"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "invalid"}, "email"),
        ({"email": "a@b"}, "email"),
        ({"email": "a b@example.org"}, "email"),
        ({"email": " ada@example.org"}, "email"),
        ({"email": f"{'x' * 243}@example.org"}, "email"),  # 255 characters
        ({"email": ["ada@example.org"]}, "email"),
        ({"email": None}, "email"),
        ({"email": "ad\x00a@example.org"}, "email"),
        ({"password": "1234567"}, "password"),
        ({"password": "é" * 36 + "x"}, "password"),
        ({"password": "x" * 73}, "password"),
        ({"password": "pass\x00word"}, "password"),
        ({"password": 12345678}, "password"),
        ({"name": ""}, "name"),
        ({"name": " \t\n"}, "name"),
        ({"name": "\u200b\u2060 \ufeff"}, "name"),
        ({"name": "\u3164\u2800\u00ad\U000e0020"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "A\x00da"}, "name"),
        ({"name": {"first": "Ada"}}, "name"),
        ({"role": "admin"}, "role"),
        ({"status": "active"}, "status"),
        ({"id": str(uuid4())}, "id"),
        ({"user_id": str(uuid4())}, "user_id"),
        ({"password_hash": "$2b$"}, "password_hash"),
        ({"created_at": "2020-01-01T00:00:00Z"}, "created_at"),
    ],
)
def test_register_invalid_field_is_400_and_stores_nothing(
    client: FlaskClient, engine: Engine, recorder: RecordingHasher, changes: dict[str, Any], field: str
) -> None:
    before = count(engine, "SELECT count(*) FROM users")
    answer = client.post("/api/auth/register", json={**GOOD, **changes})
    assert set(assert_problem(answer, 400, "invalid_input")["errors"]) == {field}
    assert count(engine, "SELECT count(*) FROM users") == before
    assert recorder.hashed == 0


def test_register_long_email_is_refused_before_pattern(client: FlaskClient) -> None:
    """The pattern of an address takes long for a long text, and registration is public."""
    answer = client.post("/api/auth/register", json={**GOOD, "email": "@" * 15_000})
    messages = assert_problem(answer, 400, "invalid_input")["errors"]["email"]
    assert messages == ["Longer than maximum length 254."]


@pytest.mark.parametrize("missing", ["email", "password", "name"])
def test_register_missing_field_is_400(client: FlaskClient, missing: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != missing}
    assert set(assert_problem(client.post("/api/auth/register", json=body), 400, "invalid_input")["errors"]) == {
        missing
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"email": "a@example.org", "password": "long enough", "name": "\\ud800"}', "application/json"),
        (b'{"email": "a@example.org", "password": "long\\udfff enough", "name": "Ada"}', "application/json"),
        (b'{"email": "a@example.org", "password": "long enough", "name": "\xff"}', "application/json"),
        (b'["a@example.org"]', "application/json"),
        (b"{", "application/json"),
        (b"email=a@example.org&password=long+enough&name=Ada", "application/x-www-form-urlencoded"),
    ],
)
@pytest.mark.parametrize("path", ["/api/auth/register", "/api/auth/login"])
def test_unreadable_body_is_400(client: FlaskClient, engine: Engine, path: str, body: bytes, content_type: str) -> None:
    assert_problem(client.post(path, data=body, content_type=content_type), 400, "invalid_input")
    assert count(engine, "SELECT count(*) FROM users WHERE email = 'a@example.org'") == 0


def test_password_of_72_bytes_is_accepted_and_longer_is_400(
    client: FlaskClient, use_hasher: Callable[[PasswordHasher], None]
) -> None:
    use_hasher(PasswordHasher(rounds=4))
    email, password = new_email(), "éàüöñçøåß" * 4
    assert client.post("/api/auth/register", json={**GOOD, "email": email, "password": password}).status_code == 201
    assert client.post("/api/auth/login", json={"email": email, "password": password}).status_code == 200
    longer = client.post("/api/auth/login", json={"email": email, "password": password + "é"})
    assert "72 bytes" in assert_problem(longer, 400, "invalid_input")["errors"]["password"][0]


def test_login_failures_have_identical_responses(
    client: FlaskClient,
    engine: Engine,
    make_user: Callable[..., LoggedInUser],
    user: LoggedInUser,
    recorder: RecordingHasher,
) -> None:
    disabled = make_user(status="disabled")
    problems = []
    for email in (user.email, new_email(), disabled.email, "not an address"):
        recorder.verified.clear()
        answer = client.post("/api/auth/login", json={"email": email, "password": "wrong"})
        problems.append(assert_problem(answer, 401, "not_authenticated"))
        # The same work in all cases: one comparison with a hash of the same cost.
        assert recorder.verified == ["wrong"]
    for body in problems:
        del body["request_id"]
    assert problems == [problems[0]] * 4
    for account in (user, disabled):
        assert count(engine, "SELECT count(*) FROM sessions WHERE user_id = :u", u=account.id) == 1


def test_login_disabled_user_with_right_password_is_403(
    client: FlaskClient, engine: Engine, make_user: Callable[..., LoggedInUser]
) -> None:
    disabled = make_user(status="disabled")
    answer = client.post("/api/auth/login", json={"email": disabled.email, "password": PASSWORD})
    assert "disabled" in assert_problem(answer, 403, "not_allowed")["detail"]
    assert count(engine, "SELECT count(*) FROM sessions WHERE user_id = :u", u=disabled.id) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@example.org"},
        {"password": "x"},
        {"email": "a@example.org", "password": ["x"]},
        {"email": "x" * 255, "password": "x"},
        {"email": "a@example.org", "password": "x", "role": "admin"},
        {"email": "a@example.org", "password": "x\x00"},
        {"email": "", "password": "x"},
    ],
)
def test_login_invalid_body_is_400_without_hashing(
    client: FlaskClient, recorder: RecordingHasher, body: dict[str, Any]
) -> None:
    assert_problem(client.post("/api/auth/login", json=body), 400, "invalid_input")
    assert recorder.verified == []


def test_full_password_queue_is_503_and_stores_nothing(
    client: FlaskClient, engine: Engine, user: LoggedInUser, use_hasher: Callable[[PasswordHasher], None]
) -> None:
    use_hasher(FullHasher())
    email = new_email()
    answers = [
        client.post("/api/auth/register", json={**GOOD, "email": email}),
        client.post("/api/auth/login", json={"email": user.email, "password": PASSWORD}),
        client.post("/api/auth/login", json={"email": email, "password": PASSWORD}),
        client.post(
            "/api/auth/password",
            json={"current_password": PASSWORD, "new_password": "another horse"},
            headers=user.headers,
        ),
    ]
    for answer in answers:
        assert_problem(answer, 503, Overloaded.code)
        assert answer.headers["Retry-After"] == "1"
    assert count(engine, "SELECT count(*) FROM users WHERE email = :e", e=email) == 0
    assert client.get("/api/auth/me", headers=user.headers).status_code == 200


def test_rename_changes_only_the_callers_name(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    changed = client.patch("/api/auth/me", json={"name": "Grace"}, headers=user.headers)
    assert (changed.status_code, (changed.json or {})["name"]) == (200, "Grace")
    current = client.get("/api/auth/me", headers=user.headers).json or {}
    assert {**current, **(changed.json or {})} == current
    assert (client.patch("/api/auth/me", json={}, headers=user.headers).json or {})["name"] == "Grace"
    assert (client.get("/api/auth/me", headers=other_user.headers).json or {})["name"] == "Ada"
    assert count(engine, "SELECT count(*) FROM users WHERE id = :u AND updated_at > created_at", u=user.id) == 1


@pytest.mark.parametrize(
    "field", ["id", "user_id", "role", "status", "email", "password", "password_hash", "updated_at"]
)
def test_rename_with_other_field_is_400(client: FlaskClient, user: LoggedInUser, field: str) -> None:
    before = client.get("/api/auth/me", headers=user.headers).json
    answer = client.patch("/api/auth/me", json={"name": "Grace", field: "admin"}, headers=user.headers)
    assert set(assert_problem(answer, 400, "invalid_input")["errors"]) == {field}
    assert client.get("/api/auth/me", headers=user.headers).json == before


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "A\x00da", None, 7])
def test_rename_invalid_name_is_400(client: FlaskClient, user: LoggedInUser, name: Any) -> None:
    answer = client.patch("/api/auth/me", json={"name": name}, headers=user.headers)
    assert set(assert_problem(answer, 400, "invalid_input")["errors"]) == {"name"}


def test_change_password_wrong_current_is_400(
    client: FlaskClient, user: LoggedInUser, recorder: RecordingHasher
) -> None:
    body = {"current_password": "wrong", "new_password": "another horse"}
    answer = client.post("/api/auth/password", json=body, headers=user.headers)
    assert set(assert_problem(answer, 400, "invalid_input")["errors"]) == {"current_password"}
    assert recorder.hashed == 0
    assert client.get("/api/auth/me", headers=user.headers).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"new_password": "short"}, "new_password"),
        ({"new_password": "é" * 37}, "new_password"),
        ({"new_password": "with\x00 a NUL"}, "new_password"),
        ({"new_password": None}, "new_password"),
        ({"current_password": "x" * 73}, "current_password"),
        ({"user_id": str(uuid4())}, "user_id"),
    ],
)
def test_change_password_invalid_is_400_without_hashing(
    client: FlaskClient, user: LoggedInUser, recorder: RecordingHasher, changes: dict[str, Any], field: str
) -> None:
    body = {"current_password": PASSWORD, "new_password": "another horse", **changes}
    answer = client.post("/api/auth/password", json=body, headers=user.headers)
    assert set(assert_problem(answer, 400, "invalid_input")["errors"]) == {field}
    assert (recorder.verified, recorder.hashed) == ([], 0)


def test_parallel_password_changes_one_succeeds(flask_app: Flask, user: LoggedInUser) -> None:
    def change(new: str) -> int:
        body = {"current_password": PASSWORD, "new_password": new}
        return flask_app.test_client().post("/api/auth/password", json=body, headers=user.headers).status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(change, ["first horse", "second horse"]))
    # The second one has the wrong current password, or its session has ended.
    assert statuses[0] == 204
    assert statuses[1] in (400, 401)


def test_logout_ends_only_this_session(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    response = client.post("/api/auth/logout", headers=user.headers)
    assert (response.status_code, response.data) == (204, b"")
    assert_problem(client.get("/api/auth/me", headers=user.headers), 401, "not_authenticated")
    assert_problem(client.post("/api/auth/logout", headers=user.headers), 401, "not_authenticated")
    assert client.get("/api/auth/me", headers=other_user.headers).status_code == 200
    assert count(engine, "SELECT count(*) FROM users WHERE id = :u", u=user.id) == 1
