"""Copies of files at a provider: the jobs provider_files.sync and provider_files.reconcile, and their checks."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.config import Settings
from app.errors import ProviderError
from ops.checks.run import CheckResult
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.levels import Level
from ops.maintenance.files import purge_files
from ops.maintenance.provider_file_orphans import ProviderFilesReconciliation, reconcile_provider_files
from ops.maintenance.provider_files import MAX_ATTEMPTS, ProviderFilesReport, sync_provider_files
from ops.runs.actors import Actor
from ops.users.erasure import erase
from ops.users.receipts import list_receipts
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.files_api import FilesAccount, FilesUpstream
from tests.processes import reaped
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]
KEY = "sk-not-to-be-shown-0123456789"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\r\n--x\r\n"
NOTHING = ProviderFilesReport(0, 0, 0, 0, 0, 0, 0)
DAY = 86_400  # seconds

Put = Callable[..., dict[str, Any]]


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream() as upstream:
        yield upstream


@pytest.fixture
def account(upstream: FilesUpstream) -> FilesAccount:
    return upstream.account


@pytest.fixture
def settings(settings: Settings, upstream: FilesUpstream) -> Settings:
    """Return the settings with the fake as `compatible`, to which files may be copied."""
    provider = {"openai_base_url": upstream.base_url, "openai_api_key": SecretStr(KEY)}
    return replace(
        settings,
        provider=settings.provider.model_copy(update=provider),
        files=settings.files.model_copy(update={"providers": ("compatible",), "provider_timeout": 20}),
    )


@pytest.fixture
def project(client: FlaskClient, user: LoggedInUser) -> str:
    """Create a project that opts in."""
    created = client.post("/api/projects", json={"name": "P", "provider_files": True}, headers=user.headers)
    assert created.status_code == 201, created.text
    return str(created.json["id"])


@pytest.fixture
def put(client: FlaskClient, user: LoggedInUser, project: str) -> Put:
    """Return a function that uploads bytes to a project, by default the one that opts in, and returns the file."""

    def put(content: bytes, name: str = "a.txt", to: str | None = project) -> dict[str, Any]:
        url = f"/api/projects/{to}/files" if to else "/api/files"
        response = client.put(url, query_string={"name": name}, data=content, headers=user.headers)
        assert response.status_code in (200, 201), response.text
        return dict(response.json)

    return put


@pytest.fixture
def copies(client: FlaskClient, user: LoggedInUser) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Return a function that reads the copies of a file from the API."""
    return lambda file: list(client.get(f"/api/files/{file['id']}", headers=user.headers).json["provider_files"])


Copies = Callable[[dict[str, Any]], list[dict[str, Any]]]


def sync(flask_app: Flask) -> ProviderFilesReport:
    with flask_app.app_context():
        return sync_provider_files()


def reconcile(flask_app: Flask, **options: Any) -> ProviderFilesReconciliation:
    with flask_app.app_context():
        return reconcile_provider_files(**options)


def checked(flask_app: Flask, check: str) -> CheckResult:
    with flask_app.app_context():
        [result] = run_doctor(checks=select_checks([f"provider_files.{check}"])).results
        return result


def make_due(engine: Engine) -> None:
    """Let all pauses end."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE provider_files SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL"))
        connection.execute(text("UPDATE provider_file_removals SET next_attempt_at = now()"))


def remote_ids(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT remote_id FROM provider_files ORDER BY 1")).scalars())


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


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (scripts.api_error(429, f"slow down {KEY}", {"Retry-After": "7"}), "limiting"),
        (scripts.api_error(500, "at db7.internal"), "failed"),
        (scripts.api_error(401, KEY), "key"),
        (scripts.status(404, "<h1>nginx on db7.internal</h1>"), "no Files API"),
        (scripts.status(200, {"object": "file"}), "invalid answer"),
        (scripts.status(200, "not JSON"), "invalid answer"),
        (scripts.not_http(), "HTTP"),
        (scripts.reset(), "connection"),
    ],
)
def test_failed_upload_is_retried(
    put: Put,
    copies: Copies,
    flask_app: Flask,
    account: FilesAccount,
    engine: Engine,
    upstream: FilesUpstream,
    script: Any,
    reason: str,
) -> None:
    file = put(b"x")
    account.next_uploads = [script]
    assert sync(flask_app) == replace(NOTHING, added=1, retried=1)
    [copy] = copies(file)
    assert copy["state"] == "pending"
    assert reason in copy["reason"]
    for secret in (KEY, "internal", str(upstream.port)):
        assert secret not in copy["reason"]
    assert sync(flask_app) == NOTHING  # it pauses
    make_due(engine)
    assert sync(flask_app) == replace(NOTHING, uploaded=1)
    assert copies(file) == [{"provider": "compatible", "state": "uploaded", "reason": None}]


def test_silent_provider_is_given_up_after_the_timeout(
    put: Put, copies: Copies, flask_app: Flask, account: FilesAccount, settings: Settings
) -> None:
    file = put(b"x")
    account.next_uploads = [scripts.hang()]
    short = settings.files.model_copy(update={"provider_timeout": 1})
    flask_app.extensions["parley.settings"] = replace(settings, files=short)
    assert sync(flask_app) == replace(NOTHING, added=1, retried=1)
    assert copies(file)[0]["reason"] == "The provider compatible did not answer within 1 seconds."


def test_failures_end_as_failed_and_are_tried_again_after_a_day(
    put: Put, copies: Copies, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    file = put(b"x")
    account.next_uploads = [scripts.status(503)] * MAX_ATTEMPTS
    for _ in range(MAX_ATTEMPTS):
        make_due(engine)
        last = sync(flask_app)
    assert (last.failed, copies(file)[0]["state"]) == (1, "failed")
    result = checked(flask_app, "state")
    assert (result.level, result.findings[0].object) == (Level.WARNING, "uploads compatible")
    make_due(engine)
    assert sync(flask_app).uploaded == 1
    assert checked(flask_app, "state").level is Level.OK


def test_rejected_file_is_not_sent_again_and_others_go_on(
    put: Put, copies: Copies, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    rejected = put(b"1")
    account.next_uploads = [scripts.api_error(413, "too large")]
    assert sync(flask_app) == replace(NOTHING, added=1, failed=1)
    put(b"2")
    make_due(engine)
    assert sync(flask_app) == replace(NOTHING, added=1, uploaded=1)
    [copy] = copies(rejected)
    assert (copy["state"], copy["reason"]) == ("failed", "The file is too large for the provider.")


def test_file_that_is_deleted_during_its_upload_is_deleted_at_the_provider(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    put(b"x")

    async def delete_first(exchange: Any) -> None:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM files"))
        await account.answer(exchange)

    account.next_uploads = [delete_first]
    assert sync(flask_app).uploaded == 1
    assert len(account.files) == 1
    assert sync(flask_app) == replace(NOTHING, removed=1)
    assert account.files == {}


def test_copy_without_row_is_deleted_and_other_files_stay(
    put: Put, copies: Copies, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    """The connection, or the process, ended between the provider's answer and the row."""
    file = put(b"x")
    account.lose_answers = 1
    assert sync(flask_app) == replace(NOTHING, added=1, retried=1)
    [orphan] = account.files
    make_due(engine)
    assert sync(flask_app).uploaded == 1
    assert reconcile(flask_app) == ProviderFilesReconciliation(0, 0)  # it may belong to an upload that still runs
    account.age_all(2 * 3600)
    others = {account.add(f"parley-{n}.txt", age=DAY) for n in range(7)}  # two more pages
    assert checked(flask_app, "orphans").findings[0].evidence == {"without_row": [orphan], "without_copy": []}
    assert reconcile(flask_app, dry_run=True) == ProviderFilesReconciliation(1, 0, dry_run=True)
    assert sync(flask_app) == NOTHING
    assert reconcile(flask_app) == ProviderFilesReconciliation(1, 0)
    assert sync(flask_app) == replace(NOTHING, removed=1)
    assert set(account.files) == others | set(remote_ids(engine))
    assert copies(file)[0]["state"] == "uploaded"
    assert checked(flask_app, "orphans").level is Level.OK


@pytest.mark.process
def test_upload_killed_before_its_row_leaves_a_copy_that_is_deleted(
    put: Put,
    copies: Copies,
    flask_app: Flask,
    account: FilesAccount,
    upstream: FilesUpstream,
    engine: Engine,
    settings: Settings,
) -> None:
    file = put(b"x")
    account.hang_after_storing = 1
    environment = {
        **os.environ,
        "DATABASE_URL": str(settings.database.url),
        "FILES_URL": str(settings.files.url),
        "FILES_PROVIDERS": "compatible",
        "OPENAI_BASE_URL": upstream.base_url,
        "OPENAI_API_KEY": KEY,
        "JWT_SECRET_KEY": "x" * 32,
    }
    command = [sys.executable, "-m", "tests.files.provider_files_process"]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment)
    with reaped(process):
        wait_until(lambda: bool(account.files) or process.poll() is not None)
        process.kill()
        assert process.wait() < 0
    [orphan] = account.files
    assert copies(file) == [{"provider": "compatible", "state": "pending", "reason": None}]
    assert sync(flask_app) == NOTHING  # the attempt may still run
    make_due(engine)
    assert sync(flask_app) == replace(NOTHING, uploaded=1)
    account.age_all(2 * 3600)
    assert reconcile(flask_app) == ProviderFilesReconciliation(1, 0)
    assert sync(flask_app) == replace(NOTHING, removed=1)
    assert orphan not in account.files
    assert list(account.files) == remote_ids(engine)


def test_row_without_copy_is_uploaded_again(
    put: Put, copies: Copies, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    lost, kept = put(b"lost"), put(b"kept")
    sync(flask_app)
    [gone] = [key for key, stored in account.files.items() if stored.content == b"lost"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE provider_files SET updated_at = now() - interval '2 hours'"))
    del account.files[gone]
    assert checked(flask_app, "orphans").findings[0].evidence == {"without_row": [], "without_copy": [gone]}
    assert reconcile(flask_app) == ProviderFilesReconciliation(0, 1)
    assert copies(lost)[0]["state"] == "pending"
    assert sync(flask_app) == replace(NOTHING, uploaded=1)
    assert sorted(stored.content for stored in account.files.values()) == [b"kept", b"lost"]
    assert copies(kept)[0]["state"] == "uploaded"


def test_provider_that_does_not_list_changes_nothing(
    put: Put, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    put(b"x")
    sync(flask_app)
    account.add("other.txt")
    with engine.begin() as connection:
        connection.execute(text("UPDATE provider_files SET updated_at = now() - interval '2 hours'"))
    for script in (scripts.status(500), scripts.status(200, {"data": 3}), scripts.status(200, "x"), scripts.reset()):
        account.next_lists = [script]
        with pytest.raises(ProviderError):
            reconcile(flask_app)
    account.next_lists = [scripts.status(500)]
    assert checked(flask_app, "orphans").level is Level.UNKNOWN
    assert sync(flask_app) == NOTHING


def test_copy_that_stays_is_reported_until_it_is_deleted(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask, account: FilesAccount, engine: Engine
) -> None:
    file = put(b"x")
    sync(flask_app)
    client.delete(f"/api/files/{file['id']}", headers=user.headers)
    account.next_deletions = [scripts.status(500)]
    assert sync(flask_app) == replace(NOTHING, unremoved=1)
    assert checked(flask_app, "state").level is Level.OK
    with engine.begin() as connection:
        connection.execute(text("UPDATE provider_file_removals SET created_at = now() - interval '2 days'"))
    assert checked(flask_app, "state").findings[0].object == "removals compatible"
    make_due(engine)
    assert sync(flask_app) == replace(NOTHING, removed=1)
    assert checked(flask_app, "state").level is Level.OK


def test_unreadable_content_is_not_uploaded(
    put: Put, copies: Copies, flask_app: Flask, account: FilesAccount, store: Path, engine: Engine
) -> None:
    lost = put(b"lost")
    [path] = store.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:2])
    assert sync(flask_app) == replace(NOTHING, added=1, retried=1)
    assert copies(lost)[0]["reason"] == "The content of the file could not be read."
    assert account.files == {}
    path.write_bytes(content)
    make_due(engine)
    assert sync(flask_app).uploaded == 1
    with flask_app.app_context():
        purge_files()
    assert path.exists()


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
