"""Copies without a row and rows without a copy."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings
from app.errors import ProviderError
from ops.levels import Level
from ops.maintenance.provider_file_orphans import ProviderFilesReconciliation
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.files_api import FilesAccount, FilesUpstream
from tests.files.provider_files.conftest import (
    DAY,
    KEY,
    NOTHING,
    PROJECT,
    Copies,
    Put,
    checked,
    make_due,
    reconcile,
    remote_ids,
    sync,
)
from tests.processes import reaped
from tests.waiting import wait_until


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
