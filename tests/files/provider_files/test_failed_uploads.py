"""Uploads to a provider that fail, and files that cannot be sent."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings
from ops.levels import Level
from ops.maintenance.files import purge_files
from ops.maintenance.provider_files import MAX_ATTEMPTS
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.files_api import FilesAccount, FilesUpstream
from tests.files.provider_files.conftest import KEY, NOTHING, Copies, Put, checked, make_due, sync


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
