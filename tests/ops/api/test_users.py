"""The admin API of users: permissions, effects and audit."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.ids import new_id
from app.jobs import Message
from ops.catalogue.declarations import load
from ops.catalogue.jobs import ERASE_USER
from ops.runs.actors import Actor
from ops.users.erasure import erase
from tests.api.keys import make_key
from tests.factories import PASSWORD, LoggedInUser


@pytest.fixture
def do(client: FlaskClient) -> Callable[..., TestResponse]:
    def do(by: LoggedInUser, what: str, to: LoggedInUser, body: Any = None, method: str = "POST") -> TestResponse:
        return client.open(f"/api/admin/users/{to.id}/{what}", method=method, json=body, headers=by.headers)

    return do


def test_operator_sees_metadata_of_users_only(client: FlaskClient, operator: LoggedInUser, user: LoggedInUser) -> None:
    assert client.post("/api/chat", json={"message": "my secret"}, headers=user.headers).status_code == 200
    query = {"email": user.email.upper()}
    [item] = client.get("/api/admin/users", query_string=query, headers=operator.headers).get_json()["items"]
    assert (item["id"], item["status"], item["role"]) == (str(user.id), "active", "user")
    response = client.get(f"/api/admin/users/{user.id}", headers=operator.headers)
    data = response.get_json()
    assert (data["conversations"], data["messages"], data["sessions"], data["held"]) == (1, 2, 1, 0)
    assert "secret" not in response.text
    assert client.get(f"/api/admin/users/{new_id()}", headers=operator.headers).status_code == 404


def test_users_are_paginated(
    client: FlaskClient, operator: LoggedInUser, make_user: Callable[..., LoggedInUser]
) -> None:
    created = [str(make_user().id) for _ in range(3)]
    first = client.get("/api/admin/users", query_string={"limit": 2}, headers=operator.headers).get_json()
    query = {"limit": 2, "cursor": first["next_cursor"]}
    second = client.get("/api/admin/users", query_string=query, headers=operator.headers).get_json()
    assert [item["id"] for item in first["items"] + second["items"]][:3] == created[::-1]


def test_user_is_disabled_and_enabled(
    client: FlaskClient, do: Callable[..., TestResponse], operator: LoggedInUser, user: LoggedInUser
) -> None:
    assert do(operator, "disable", user).get_json()["status"] == "disabled"
    assert client.get("/api/auth/me", headers=user.headers).status_code == 401
    assert do(operator, "enable", user).get_json()["status"] == "active"
    query = {"target": str(user.id)}
    acts = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert [(act["action"], act["actor"], act["result"]) for act in acts] == [
        ("user.enable", str(operator.id), "done"),
        ("user.disable", str(operator.id), "done"),
    ]


def test_own_user_and_admins_of_operators_are_refused(
    client: FlaskClient,
    do: Callable[..., TestResponse],
    operator: LoggedInUser,
    admin: LoggedInUser,
    user: LoggedInUser,
) -> None:
    assert do(operator, "disable", operator).status_code == 409
    assert do(admin, "role", admin, {"role": "user"}, "PUT").status_code == 409
    for what in ("disable", "enable", "logout"):
        assert do(operator, what, admin).status_code == 403
        assert do(user, what, operator).status_code == 403
    query = {"target": str(admin.id), "action": "user.disable"}
    [act] = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert act["result"] == "refused"


def test_creation_and_promotion_require_admin(
    client: FlaskClient,
    do: Callable[..., TestResponse],
    operator: LoggedInUser,
    admin: LoggedInUser,
    user: LoggedInUser,
) -> None:
    body = {"email": f"{new_id().hex}@example.org", "password": PASSWORD, "name": "Grace", "role": "operator"}
    assert client.post("/api/admin/users", json=body, headers=operator.headers).status_code == 403
    created = client.post("/api/admin/users", json=body, headers=admin.headers)
    assert (created.status_code, created.get_json()["role"]) == (201, "operator")
    assert client.post("/api/admin/users", json=body, headers=admin.headers).status_code == 409
    assert do(operator, "role", user, {"role": "admin"}, "PUT").status_code == 403
    assert do(admin, "role", user, {"role": "king"}, "PUT").status_code == 400
    assert do(admin, "role", user, {"role": "operator"}, "PUT").get_json()["role"] == "operator"
    assert client.get("/api/admin/users", headers=user.headers).status_code == 200


def test_erasure_is_enqueued_and_done_by_job(
    served: Flask,
    client: FlaskClient,
    do: Callable[..., TestResponse],
    operator: LoggedInUser,
    admin: LoggedInUser,
    user: LoggedInUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)  # the broker's side is in tests/jobs
    assert client.post("/api/chat", json={"message": "hello"}, headers=user.headers).status_code == 200
    assert do(operator, "erase", user, {"reason": "asked for it"}).status_code == 403
    assert do(admin, "erase", user, {"reason": " "}).status_code == 400
    response = do(admin, "erase", user, {"reason": "asked for it"})
    assert response.status_code == 202, response.text
    assert response.get_json()["rows"]["messages"] == 2
    [message] = sent
    assert message.name == ERASE_USER.name
    with served.app_context():
        receipt = load(ERASE_USER.function)(**message.arguments)
        assert load(ERASE_USER.function)(**message.arguments) is None  # as when it is delivered twice
    assert receipt.requested_by == str(admin.id)
    assert client.get(f"/api/admin/users/{user.id}", headers=admin.headers).status_code == 404


def test_export_requires_admin_and_reason(
    client: FlaskClient,
    do: Callable[..., TestResponse],
    operator: LoggedInUser,
    admin: LoggedInUser,
    user: LoggedInUser,
) -> None:
    assert client.post("/api/chat", json={"message": "my secret"}, headers=user.headers).status_code == 200
    for by, body, status in (
        (operator, {"reason": "request of 2026-11-20"}, 403),
        (user, {"reason": "request of 2026-11-20"}, 403),
        (admin, {}, 400),
        (admin, {"reason": " because  "}, 400),
        (admin, {"reason": None}, 400),
    ):
        refused = do(by, "export", user, body)
        assert refused.status_code == status, refused.text
    response = do(admin, "export", user, {"reason": "request of 2026-11-20"})
    assert (response.status_code, response.content_type) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(response.data)) as archive:
        [document] = [name for name in archive.namelist() if name.startswith("conversations/")]
        assert b"my secret" in archive.read(document)
    body = {"reason": "request of 2026-11-20"}
    unknown = client.post(f"/api/admin/users/{new_id()}/export", json=body, headers=admin.headers)
    assert unknown.status_code == 404, unknown.text
    query = {"target": str(user.id), "action": "user.export"}
    [act] = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert (act["actor"], act["result"], act["address"]) == (str(admin.id), "done", "127.0.0.1")
    assert act["details"]["reason"] == "request of 2026-11-20"
    assert act["details"]["conversations"] == 1


def test_aborted_export_is_audited_as_failed(
    client: FlaskClient, admin: LoggedInUser, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.user_exports._PIECE", 1)
    body = {"reason": "request of 2026-11-20"}
    path = f"/api/admin/users/{user.id}/export"
    response = client.post(path, json=body, headers=admin.headers, buffered=False)
    next(response.response)  # type: ignore[call-overload]  # an iterator, while it is not buffered
    response.close()
    query = {"target": str(user.id), "action": "user.export"}
    [act] = client.get("/api/admin/audit", query_string=query, headers=admin.headers).get_json()["items"]
    assert act["result"] == "failed"


def test_reading_conversation_requires_admin_and_reason(
    client: FlaskClient,
    do: Callable[..., TestResponse],
    operator: LoggedInUser,
    admin: LoggedInUser,
    user: LoggedInUser,
) -> None:
    said = client.post("/api/chat", json={"message": "my secret"}, headers=user.headers).get_json()
    conversation, body = said["conversation"]["id"], {"reason": "court order 17/2026"}
    what = f"conversations/{conversation}/read"
    assert do(operator, what, user, body).status_code == 403
    assert do(admin, what, user, {"reason": "because"}).status_code == 400
    response = do(admin, what, user, body)
    assert (response.status_code, "my secret" in response.text) == (200, True)
    assert do(admin, what, operator, body).status_code == 404
    assert do(admin, f"conversations/{new_id()}/read", user, body).status_code == 404
    query = {"target": conversation, "action": "conversation.read"}
    acts = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert [(act["result"], act["details"]["reason"]) for act in acts] == [
        ("refused", "court order 17/2026"),
        ("done", "court order 17/2026"),
    ]


def test_keys_are_listed_and_revoked(
    served: Flask, client: FlaskClient, operator: LoggedInUser, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    key = make_key(served, user)
    path = f"/api/admin/users/{user.id}/keys"
    listed = client.get(path, headers=operator.headers)
    [data] = listed.get_json()["items"]
    assert (data["id"], data["revoked_at"]) == (str(key.id), None)
    assert key.secret not in listed.text
    assert client.get(path.replace(str(user.id), str(new_id())), headers=operator.headers).status_code == 404
    elsewhere = client.delete(f"/api/admin/users/{other_user.id}/keys/{key.id}", headers=operator.headers)
    assert elsewhere.status_code == 404
    ended = client.delete(f"{path}/{key.id}", headers=operator.headers).get_json()
    assert ended["revoked_at"] is not None
    again = client.delete(f"{path}/{key.id}", headers=operator.headers).get_json()
    assert again["revoked_at"] == ended["revoked_at"]
    assert client.get("/api/conversations", headers=key.headers).status_code == 401
    query = {"target": str(key.id)}
    acts = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert [(act["action"], act["result"]) for act in acts] == [
        ("key.revoke", "done"),
        ("key.revoke", "done"),
        ("key.revoke", "refused"),
    ]


def test_receipts_are_paginated(
    served: Flask, client: FlaskClient, operator: LoggedInUser, make_user: Callable[..., LoggedInUser]
) -> None:
    by = Actor(kind="command", name="tester@here")
    with served.app_context():
        created = [str(erase(user_id=make_user().id, by=by, reason="asked for it").id) for _ in range(3)]
    path = "/api/admin/erasures"
    first = client.get(path, query_string={"limit": 2}, headers=operator.headers).get_json()
    second = client.get(
        path, query_string={"limit": 2, "cursor": first["next_cursor"]}, headers=operator.headers
    ).get_json()
    assert [item["id"] for item in first["items"] + second["items"]][:3] == created[::-1]
    assert first["items"][0]["rows"] == {"users": 1, "sessions": 1}


def test_erasure_without_broker_is_unavailable(
    served: Flask,
    do: Callable[..., TestResponse],
    admin: LoggedInUser,
    user: LoggedInUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served.extensions["jobs"], "broker", lambda: "redis://127.0.0.1:1/0")
    response = do(admin, "erase", user, {"reason": "asked for it"})
    assert (response.status_code, response.get_json()["code"]) == (503, "unavailable")


def test_quota_is_set_read_and_removed(client: FlaskClient, operator: LoggedInUser, user: LoggedInUser) -> None:
    path = f"/api/admin/users/{user.id}/quota"
    assert client.get(path, headers=operator.headers).get_json()["tokens_per_day"] is None
    data = client.put(path, json={"tokens_per_day": 50}, headers=operator.headers)
    assert (data.status_code, data.get_json()["tokens_per_day"]) == (200, 50)
    refused = client.post("/api/chat", json={"message": "hello"}, headers=user.headers)
    assert (refused.status_code, refused.get_json()["code"]) == (429, "quota_exceeded")
    for wrong in ({"tokens_per_day": 0}, {"tokens_per_day": "many"}, {}):
        assert client.put(path, json=wrong, headers=operator.headers).status_code == 400
    assert client.put(path, json={"tokens_per_day": None}, headers=operator.headers).status_code == 200
    assert client.post("/api/chat", json={"message": "hello"}, headers=user.headers).status_code == 200
    assert client.get(f"/api/admin/users/{new_id()}/quota", headers=operator.headers).status_code == 404
