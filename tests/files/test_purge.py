"""The job files.purge and the check files.contents."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from app.storage.errors import StorageUnavailable
from ops.checks.run import CheckResult
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.levels import Level
from ops.maintenance.files import FilePurgeReport, purge_files
from tests.factories import LoggedInUser

TWO_DAYS = 172_800  # seconds

Put = Callable[..., dict[str, Any]]


@pytest.fixture
def put(client: FlaskClient, user: LoggedInUser) -> Put:
    """Return a function that uploads bytes under a name and returns the file."""

    def put(content: bytes, name: str = "a.txt", project: str | None = None) -> dict[str, Any]:
        url = f"/api/projects/{project}/files" if project else "/api/files"
        response = client.put(url, query_string={"name": name}, data=content, headers=user.headers)
        assert response.status_code in (200, 201), response.text
        return dict(response.json)

    return put


def purge(flask_app: Flask, **options: Any) -> FilePurgeReport:
    with flask_app.app_context():
        return purge_files(**options)


def checked(flask_app: Flask) -> CheckResult:
    with flask_app.app_context():
        [result] = run_doctor(checks=select_checks(["files.contents"])).results
        return result


def names(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()}


def age(path: Path, seconds: int) -> None:
    status = path.stat()
    os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def test_object_of_deleted_file_is_deleted(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask, store: Path
) -> None:
    kept, gone = put(b"kept"), put(b"gone")
    client.delete(f"/api/files/{gone['id']}", headers=user.headers)
    assert purge(flask_app, dry_run=True) == FilePurgeReport(0, 1, 0, dry_run=True)
    assert len(names(store)) == 2
    assert purge(flask_app) == FilePurgeReport(0, 1, 0)
    assert len(names(store)) == 1
    assert client.get(f"/api/files/{kept['id']}/content", headers=user.headers).data == b"kept"
    assert purge(flask_app) == FilePurgeReport(0, 0, 0)


def test_contents_of_deleted_project_are_deleted_unless_shared(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask, store: Path
) -> None:
    project = client.post("/api/projects", json={"name": "P"}, headers=user.headers).json["id"]
    put(b"shared", project=project)
    put(b"of the project", project=project)
    shared = put(b"shared")
    client.delete(f"/api/projects/{project}", headers=user.headers)
    assert purge(flask_app) == FilePurgeReport(1, 1, 0)
    assert len(names(store)) == 1
    assert client.get(f"/api/files/{shared['id']}/content", headers=user.headers).data == b"shared"


def test_objects_of_erased_user_are_deleted(
    engine: Engine, user: LoggedInUser, put: Put, flask_app: Flask, store: Path
) -> None:
    for n in range(3):
        put(b"%d" % n)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": user.id})
    assert purge(flask_app) == FilePurgeReport(0, 3, 0)
    assert names(store) == set()


def test_object_without_row_is_deleted_after_a_day(put: Put, flask_app: Flask, store: Path) -> None:
    """The process ended between the object and its row."""
    put(b"known")
    new, old, foreign = new_id().hex, new_id().hex, "backup.tar"
    for name in (new, old, foreign):
        (store / name).write_bytes(b"x")
    for path in store.iterdir():
        if path.name != new:
            age(path, TWO_DAYS)
    assert purge(flask_app) == FilePurgeReport(0, 1, 1)
    assert old not in names(store)
    assert {new, foreign} < names(store)


def test_unfinished_object_is_deleted_after_a_day(put: Put, flask_app: Flask, store: Path) -> None:
    """The process was killed in the middle of an upload."""
    put(b"known")
    new, old, foreign = f".{new_id().hex}.partial", f".{new_id().hex}.partial", ".backup.tar.partial"
    for name in (new, old, foreign):
        (store / name).write_bytes(b"half")
    for name in (old, foreign):
        age(store / name, TWO_DAYS)
    assert purge(flask_app) == FilePurgeReport(0, 0, 0, unfinished=1)
    assert old not in names(store)
    assert {new, foreign} < names(store)


def test_file_that_an_older_release_has_stored_is_queued_for_its_text(
    put: Put, flask_app: Flask, engine: Engine, client: FlaskClient, user: LoggedInUser
) -> None:
    old, image = put(b"words"), put(b"\x89PNG\r\n\x1a\n" + bytes(99), "a.png")
    put(b"other words", "b.txt")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM file_texts WHERE file_id = :id"), {"id": old["id"]})

    def state(file: dict[str, Any]) -> str:
        return str(client.get(f"/api/files/{file['id']}", headers=user.headers).json["text"]["state"])

    assert state(old) == "none"
    assert purge(flask_app) == FilePurgeReport(0, 0, 0, queued=1)
    assert (state(old), state(image)) == ("pending", "none")
    assert purge(flask_app) == FilePurgeReport(0, 0, 0)


def test_unavailable_store_keeps_what_is_to_be_deleted(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask, store: Path
) -> None:
    file = put(b"x")
    client.delete(f"/api/files/{file['id']}", headers=user.headers)
    away = store.rename(store.with_name("away"))
    with pytest.raises(StorageUnavailable):
        purge(flask_app)
    assert checked(flask_app).level is Level.UNKNOWN
    away.rename(store)
    assert purge(flask_app) == FilePurgeReport(0, 1, 0)


def test_missing_object_is_found_by_the_doctor(put: Put, flask_app: Flask, store: Path, engine: Engine) -> None:
    put(b"kept")
    assert checked(flask_app).level is Level.OK
    before = names(store)
    put(b"lost")
    [name] = names(store) - before
    content = (store / name).read_bytes()
    for damage in (lambda: (store / name).unlink(), lambda: (store / name).write_bytes(content[:2])):
        damage()
        result = checked(flask_app)
        assert result.level is Level.CRITICAL
        assert result.findings[0].evidence["objects"] == [name]
        (store / name).write_bytes(content)  # put back from a copy
        assert checked(flask_app).level is Level.OK


def test_stored_bytes_are_those_of_the_contents(
    client: FlaskClient, user: LoggedInUser, put: Put, engine: Engine
) -> None:
    def stored() -> int:
        with engine.connect() as connection:
            query = text("SELECT coalesce(sum(bytes), 0) FROM stored_bytes WHERE user_id = :id")
            return int(connection.execute(query, {"id": user.id}).scalar_one())

    first, second = put(b"x" * 1000), put(b"x" * 1000, "b.txt")
    assert stored() == 1000
    client.delete(f"/api/files/{first['id']}", headers=user.headers)
    assert stored() == 1000
    client.delete(f"/api/files/{second['id']}", headers=user.headers)
    assert stored() == 0
    assert UUID(first["id"]) != UUID(second["id"])
