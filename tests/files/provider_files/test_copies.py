"""Copies of files at a provider: opting in and out, and their deletion."""

from dataclasses import replace
from datetime import datetime

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings
from ops.runs.actors import Actor
from ops.users.erasure import erase
from ops.users.receipts import list_receipts
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.files_api import FilesAccount, FilesUpstream
from tests.files.provider_files.conftest import KEY, NOTHING, PDF, Copies, Put, make_due, remote_ids, sync


def test_files_of_project_are_uploaded(
    put: Put, copies: Copies, flask_app: Flask, account: FilesAccount, upstream: FilesUpstream, engine: Engine
) -> None:
    pdf, note, other = put(PDF, "The secret.PDF"), put("é".encode() * 300_000, "b.md"), put(b"none", to=None)
    assert pdf["provider_files"] == []
    assert sync(flask_app) == replace(NOTHING, added=2, uploaded=2)
    for file in (pdf, note):
        assert copies(file) == [{"provider": "compatible", "state": "uploaded", "reason": None}]
    assert copies(other) == []
    by_name = {file.filename.rsplit("-", 1)[1]: file for file in account.files.values()}
    stored = by_name[pdf["id"].replace("-", "") + ".pdf"]
    assert (stored.content, stored.media_type, stored.purpose) == (PDF, "application/pdf", "user_data")
    assert by_name[note["id"].replace("-", "") + ".md"].content == "é".encode() * 300_000
    assert "secret" not in stored.filename
    assert sorted(account.files) == remote_ids(engine)
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert sync(flask_app) == NOTHING
    assert account.uploads == 2


def test_opting_in_is_refused_where_the_operator_does_not_allow_it(
    client: FlaskClient, user: LoggedInUser, project: str
) -> None:
    for response in (
        client.post(
            "/api/projects", json={"name": "P", "provider": "demo", "provider_files": True}, headers=user.headers
        ),
        client.patch(
            f"/api/projects/{project}", json={"provider": "demo", "provider_files": True}, headers=user.headers
        ),
    ):
        assert response.status_code == 400
        assert response.json["errors"]["provider_files"] == [
            "The operator of this server does not allow copies of files at the provider demo; it allows compatible."
        ]
    assert client.get(f"/api/projects/{project}", headers=user.headers).json["provider_files"] is True


def test_nothing_is_uploaded_without_opting_in(
    client: FlaskClient, user: LoggedInUser, put: Put, copies: Copies, flask_app: Flask, account: FilesAccount
) -> None:
    other = client.post("/api/projects", json={"name": "Q"}, headers=user.headers).json
    assert other["provider_files"] is False
    file = put(b"private", to=other["id"])
    assert sync(flask_app) == NOTHING
    client.patch(f"/api/projects/{other['id']}", json={"provider_files": True}, headers=user.headers)
    assert sync(flask_app).uploaded == 1
    assert copies(file)[0]["state"] == "uploaded"


def test_opting_out_deletes_the_copies(
    client: FlaskClient,
    user: LoggedInUser,
    put: Put,
    copies: Copies,
    flask_app: Flask,
    account: FilesAccount,
    project: str,
    engine: Engine,
) -> None:
    file = put(b"x")
    sync(flask_app)
    client.patch(f"/api/projects/{project}", json={"provider_files": False}, headers=user.headers)
    account.next_deletions = [scripts.status(500)]
    assert sync(flask_app) == replace(NOTHING, withdrawn=1, unremoved=1)
    assert copies(file) == [{"provider": "compatible", "state": "removing", "reason": None}]
    make_due(engine)
    assert sync(flask_app) == replace(NOTHING, removed=1)
    assert (copies(file), account.files) == ([], {})
    client.patch(f"/api/projects/{project}", json={"provider_files": True}, headers=user.headers)
    assert sync(flask_app) == replace(NOTHING, added=1, uploaded=1)


def test_opting_out_before_the_upload_sends_nothing(
    client: FlaskClient,
    user: LoggedInUser,
    put: Put,
    copies: Copies,
    flask_app: Flask,
    account: FilesAccount,
    project: str,
    engine: Engine,
) -> None:
    file = put(b"x")
    account.next_uploads = [scripts.status(503)]
    assert sync(flask_app) == replace(NOTHING, added=1, retried=1)
    client.patch(f"/api/projects/{project}", json={"provider_files": False}, headers=user.headers)
    make_due(engine)
    assert sync(flask_app) == replace(NOTHING, withdrawn=1)
    assert (copies(file), account.uploads, account.files) == ([], 1, {})


def test_copies_end_with_the_file_the_project_and_the_account(
    client: FlaskClient,
    user: LoggedInUser,
    put: Put,
    flask_app: Flask,
    account: FilesAccount,
    project: str,
    engine: Engine,
) -> None:
    foreign = account.add("report.pdf")
    one = put(b"1")
    put(b"2")
    second = client.post("/api/projects", json={"name": "Q", "provider_files": True}, headers=user.headers).json["id"]
    put(b"3", to=second)
    assert sync(flask_app).uploaded == 3
    client.delete(f"/api/files/{one['id']}", headers=user.headers)
    assert sync(flask_app) == replace(NOTHING, removed=1)
    client.delete(f"/api/projects/{project}", headers=user.headers)
    assert sync(flask_app) == replace(NOTHING, removed=1)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": user.id})
    assert sync(flask_app) == replace(NOTHING, removed=1)
    assert set(account.files) == {foreign}


def test_receipt_of_erasure_says_when_the_copies_are_deleted(
    user: LoggedInUser, put: Put, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    put(b"1")
    put(b"2")
    assert sync(flask_app).uploaded == 2

    def deleted_at() -> datetime | None:
        with flask_app.app_context():
            [receipt] = list_receipts()
            return receipt.provider_copies_deleted_at

    with flask_app.app_context():
        erase(user_id=user.id, by=Actor(kind="cli", name="tester"), reason="a request of the user")
    account.next_deletions = [scripts.status(503)]
    assert sync(flask_app) == replace(NOTHING, unremoved=1)
    assert deleted_at() is None
    make_due(engine)
    assert sync(flask_app) == replace(NOTHING, removed=2)
    assert deleted_at() is not None
    assert account.files == {}


def test_missing_copy_counts_as_deleted(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    file = put(b"x")
    sync(flask_app)
    account.files.clear()
    client.delete(f"/api/files/{file['id']}", headers=user.headers)
    assert sync(flask_app) == replace(NOTHING, removed=1)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM provider_file_removals")).scalar_one() == 0


def test_provider_that_is_not_allowed_any_more_loses_its_copies(
    put: Put, flask_app: Flask, account: FilesAccount, settings: Settings
) -> None:
    put(b"x")
    sync(flask_app)
    none = settings.files.model_copy(update={"providers": ()})
    flask_app.extensions["parley.settings"] = replace(settings, files=none)
    assert sync(flask_app) == replace(NOTHING, withdrawn=1, removed=1)
    assert account.files == {}


def test_copies_are_seen_by_their_owner_only(
    client: FlaskClient, other_user: LoggedInUser, put: Put, flask_app: Flask
) -> None:
    file = put(b"x")
    sync(flask_app)
    assert client.get(f"/api/files/{file['id']}", headers=other_user.headers).status_code == 404
    assert client.get("/api/files", headers=other_user.headers).json["items"] == []
