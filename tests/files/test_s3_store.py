"""Files in an S3-compatible store that answers, is away, breaks off and is slow."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings
from app.errors import FileStoreUnavailable
from app.storage import s3
from app.storage.base import CHUNK
from app.storage.errors import StorageUnavailable
from ops.backup.create import BackupReport, create
from ops.backup.drill import drill
from ops.backup.prune import PruneReport, prune
from ops.checks.run import CheckResult
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.levels import Level
from ops.maintenance import files as maintenance
from ops.maintenance.file_texts import extract_texts
from ops.maintenance.files import FilePurgeReport, purge_files
from tests.factories import LoggedInUser
from tests.faults.proxy import Proxy
from tests.moto import BUCKET, Moto, moto, s3_client

__all__ = ["moto"]  # a fixture
pytestmark = pytest.mark.xdist_group("s3")  # one server for all of them

PREFIX, BACKUPS = "of/users", "of/backups"
UNAVAILABLE = (503, "file_store_unavailable")


@pytest.fixture
def wire(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Yield the network between Parley and the store."""
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    with Proxy(("127.0.0.1", moto.port)) as wire:
        yield wire


@pytest.fixture
def settings(settings: Settings, moto: Moto, wire: Proxy) -> Settings:
    values = {"url": f"s3://{BUCKET}/{PREFIX}", **moto.settings(s3_endpoint=f"http://127.0.0.1:{wire.port}")}
    of_backups = {"url": f"s3://{BUCKET}/{BACKUPS}", "keep_daily": 1, "keep_weekly": 0, "keep_monthly": 0}
    return replace(
        settings,
        files=settings.files.model_copy(update=values),
        backups=settings.backups.model_copy(update={**moto.settings(), **of_backups}),
    )


@pytest.fixture(autouse=True)
def _emptied(moto: Moto) -> Iterator[None]:
    yield
    client = s3_client(moto)
    for name in stored(moto):
        client.delete_object(Bucket=BUCKET, Key=name)


@pytest.fixture
def send(client: FlaskClient, user: LoggedInUser) -> Callable[..., Any]:
    """Return a function that uploads bytes."""

    def send(content: bytes, name: str = "a.txt") -> Any:
        return client.put("/api/files", query_string={"name": name}, data=content, headers=user.headers)

    return send


def stored(moto: Moto) -> list[str]:
    answer = s3_client(moto).list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/")
    return [entry["Key"] for entry in answer.get("Contents", ())]


def unfinished(moto: Moto) -> list[str]:
    answer = s3_client(moto).list_multipart_uploads(Bucket=BUCKET)
    return [upload["Key"] for upload in answer.get("Uploads", ()) if upload["Key"].startswith(f"{PREFIX}/")]


def rows(engine: Engine) -> tuple[int, int]:
    with engine.connect() as connection:
        statement = "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM file_contents)"
        return tuple(connection.execute(text(statement)).one())  # type: ignore[return-value]


def checked(flask_app: Flask) -> CheckResult:
    with flask_app.app_context():
        [result] = run_doctor(checks=select_checks(["files.contents"])).results
        return result


def test_file_is_stored_read_in_ranges_and_deleted(
    send: Callable[..., Any], client: FlaskClient, user: LoggedInUser, flask_app: Flask, moto: Moto
) -> None:
    content = b"\x89PNG\r\n\x1a\n" + os.urandom(12_000_000)
    file = send(content, "a.png").json
    assert len(stored(moto)) == 1
    url = f"/api/files/{file['id']}/content"
    assert client.get(url, headers=user.headers).data == content
    for span, part in (("0-9", content[:10]), ("9000000-", content[9_000_000:]), ("-7", content[-7:])):
        answer = client.get(url, headers={**user.headers, "Range": f"bytes={span}"})
        assert (answer.status_code, answer.data) == (206, part)
    assert checked(flask_app).level == Level.OK
    client.delete(f"/api/files/{file['id']}", headers=user.headers)
    with flask_app.app_context():
        assert purge_files() == FilePurgeReport(0, 1, 0)
    assert stored(moto) == []


def test_store_that_is_away_is_503_and_stores_nothing(
    send: Callable[..., Any],
    client: FlaskClient,
    user: LoggedInUser,
    flask_app: Flask,
    engine: Engine,
    moto: Moto,
    wire: Proxy,
) -> None:
    kept = send(b"kept").json
    url = f"/api/files/{kept['id']}"
    wire.cut()
    for answer in (send(b"lost"), client.get(f"{url}/content", headers=user.headers)):
        assert (answer.status_code, answer.json["code"]) == UNAVAILABLE
        assert answer.headers["Retry-After"]
        assert str(wire.port) not in answer.text
    assert rows(engine) == (1, 1)
    assert checked(flask_app).level == Level.UNKNOWN
    with flask_app.app_context():
        assert extract_texts().retried == 1
    assert client.delete(url, headers=user.headers).status_code == 204  # the row; the object waits
    with flask_app.app_context(), pytest.raises(StorageUnavailable):
        purge_files()
    wire.repair()
    assert len(stored(moto)) == 1
    with flask_app.app_context():
        assert purge_files() == FilePurgeReport(0, 1, 0)
    assert stored(moto) == []
    assert send(b"lost").status_code == 201


def test_store_that_is_away_at_start_is_used_once_it_answers(send: Callable[..., Any], wire: Proxy) -> None:
    wire.cut()
    assert send(b"early").status_code == 503
    wire.repair()
    assert send(b"early").status_code == 201


def test_upload_that_the_store_breaks_off_leaves_a_part_that_is_deleted_later(
    flask_app: Flask, user: LoggedInUser, engine: Engine, moto: Moto, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = flask_app.extensions["parley"].uploads

    def body() -> Iterator[bytes]:
        yield b"x" * (s3.PART_BYTES + 1)  # the first part is sent
        wire.cut()
        yield b"x" * s3.PART_BYTES

    with flask_app.app_context(), pytest.raises(FileStoreUnavailable):
        uploads.receive(user.id, body(), name="a.txt")
    wire.repair()
    assert rows(engine) == (0, 0)
    assert stored(moto) == []
    assert len(unfinished(moto)) == 1  # it could not be ended while the store was away
    with flask_app.app_context():
        assert purge_files().unfinished == 0  # it may still be sent
        monkeypatch.setattr(maintenance, "UNKNOWN_AFTER", -maintenance.UNKNOWN_AFTER)
        assert purge_files().unfinished == 1
    assert unfinished(moto) == []


def test_no_connection_to_the_database_is_held_while_the_store_works(
    flask_app: Flask, user: LoggedInUser, engine: Engine, send: Callable[..., Any], client: FlaskClient
) -> None:
    content = b"x" * (2 * CHUNK)
    file = send(content).json
    held: list[int] = []

    def body() -> Iterator[bytes]:
        for _ in range(2):
            held.append(engine.pool.checkedout())  # type: ignore[attr-defined]  # of a QueuePool
            yield b"y" * s3.PART_BYTES

    with flask_app.app_context():
        flask_app.extensions["parley"].uploads.receive(user.id, body(), name="b.txt")
    answer = client.get(f"/api/files/{file['id']}/content", headers=user.headers)
    for _ in answer.iter_encoded():
        held.append(engine.pool.checkedout())  # type: ignore[attr-defined]
    assert len(held) > 4
    assert set(held) == {0}


def test_backup_copies_contents_from_one_bucket_to_another_place(
    send: Callable[..., Any], flask_app: Flask, moto: Moto, wire: Proxy, client: FlaskClient, user: LoggedInUser
) -> None:
    def run(function: Callable[..., Any]) -> Any:
        with flask_app.app_context():
            return function()

    def copies() -> set[str]:
        answer = s3_client(moto).list_objects_v2(Bucket=BUCKET, Prefix=f"{BACKUPS}/contents/")
        return {entry["Key"] for entry in answer.get("Contents", ())}

    gone, _ = send(b"one").json, send(b"two")
    first: BackupReport = run(create)
    assert (first.files_copied, first.files_missing) == (2, 0)
    assert run(drill).ok
    client.delete(f"/api/files/{gone['id']}", headers=user.headers)
    before = copies()
    assert len(before) == 2
    assert (run(create).files_copied, copies()) == (0, before)
    assert run(drill).ok  # the last backup that was drilled is kept
    pruned: PruneReport = run(prune)
    assert (pruned.deleted, copies()) == (1, before)  # copies are kept for two days
    send(b"three")
    wire.cut()  # the store of files only
    third: BackupReport = run(create)
    assert (third.files, third.files_copied, third.files_missing) == (2, 0, 1)
    wire.repair()
    assert run(create).files_missing == 0
