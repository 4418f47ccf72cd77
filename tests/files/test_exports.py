"""The contents of files in a user's export."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
from flask import Flask
from flask.testing import FlaskClient

from app.services.user_exports import open_user_export
from app.storage.base import Store
from app.storage.errors import StorageUnavailable
from app.storage.folder import FolderStore
from ops.cli.entry_points import ops
from tests.factories import LoggedInUser
from tests.files.test_purge import Put, names, put

__all__ = ["put"]
PATH = "/api/auth/me/export"


def exported(client: FlaskClient, user: LoggedInUser) -> zipfile.ZipFile:
    answer = client.get(PATH, headers=user.headers)
    assert answer.status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert archive.testzip() is None
    return archive


def contents(archive: zipfile.ZipFile) -> list[bytes]:
    return sorted(archive.read(name) for name in archive.namelist() if name.startswith("files/"))


def test_export_has_each_content_once_and_all_names(client: FlaskClient, user: LoggedInUser, put: Put) -> None:
    put(b"one", "a.txt")
    put(b"one", "b.txt")
    put(b"two" * 500_000, "c.txt")
    with exported(client, user) as archive:
        assert contents(archive) == [b"one", b"two" * 500_000]
        manifest = orjson.loads(archive.read("manifest.json"))
        assert (manifest["file_contents"], manifest["unread_files"]) == (2, {})
        for line in archive.read("files.jsonl").splitlines():
            file = orjson.loads(line)
            content = archive.read(f"files/{file['sha256']}")
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            assert file["name"] in ("a.txt", "b.txt", "c.txt")


def test_export_has_no_files_of_others(client: FlaskClient, other_user: LoggedInUser, put: Put) -> None:
    put(b"mine")
    with exported(client, other_user) as archive:
        assert contents(archive) == []


def test_missing_and_damaged_contents_are_named(client: FlaskClient, user: LoggedInUser, put: Put, store: Path) -> None:
    put(b"kept")
    before = names(store)
    lost = put(b"lost")
    [lost_object] = names(store) - before
    damaged = put(b"damaged")
    [damaged_object] = names(store) - before - {lost_object}
    (store / lost_object).unlink()
    (store / damaged_object).write_bytes(b"DAMAGED")
    with exported(client, user) as archive:
        manifest = orjson.loads(archive.read("manifest.json"))
        assert manifest["file_contents"] == 1
        assert manifest["unread_files"].keys() == {lost["sha256"], damaged["sha256"]}
        assert "does not have it" in manifest["unread_files"][lost["sha256"]]
        assert b"kept" in contents(archive)


def test_store_that_is_away_does_not_break_the_export(
    client: FlaskClient, user: LoggedInUser, put: Put, store: Path
) -> None:
    for n in range(5):
        put(b"%d" % n)
    store.rename(store.with_name("away"))
    with exported(client, user) as archive:
        manifest = orjson.loads(archive.read("manifest.json"))
    assert manifest["file_contents"] == 0
    assert len(manifest["unread_files"]) == 5
    assert str(store) not in str(manifest)


def test_content_that_breaks_off_is_truncated_and_named(
    flask_app: Flask, user: LoggedInUser, put: Put, store: Path
) -> None:
    first, second = put(b"x" * 3_000_000), put(b"second")

    class BreaksOff(FolderStore):
        def read(self, name: str, start: int = 0) -> Iterator[bytes]:
            for piece in super().read(name, start):
                yield piece
                if len(piece) > 1000:
                    raise StorageUnavailable("The connection was reset.")

    def breaks_off() -> Store:
        return BreaksOff(store, setting="FILES_URL")

    with flask_app.app_context():
        raw = b"".join(open_user_export(user.id, breaks_off).pieces())
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        manifest = orjson.loads(archive.read("manifest.json"))
        assert len(archive.read(f"files/{first['sha256']}")) < 3_000_000
        assert archive.read(f"files/{second['sha256']}") == b"second"
    assert "truncated" in manifest["unread_files"][first["sha256"]]
    assert manifest["file_contents"] == 1


def test_large_export_needs_little_memory(flask_app: Flask, user: LoggedInUser, put: Put) -> None:
    content = b"0123456789abcdef" * 65_536  # 1 MiB
    size = 200 * len(content)
    put(b"x")

    class Large(FolderStore):
        def read(self, name: str, start: int = 0) -> Iterator[bytes]:
            for _ in range(200):
                yield bytes(content)

    def large() -> Store:
        return Large(Path("/nowhere"), setting="FILES_URL")

    process = psutil.Process()
    with flask_app.app_context():
        pieces = open_user_export(user.id, large).pieces()
        total = len(next(pieces))
        before = process.memory_info().rss
        for piece in pieces:
            total += len(piece)
    assert total > size
    assert process.memory_info().rss - before < size / 4


def test_command_writes_the_contents(flask_app: Flask, user: LoggedInUser, put: Put, tmp_path: Path) -> None:
    put(b"content")
    path = tmp_path / "all.zip"
    result = flask_app.test_cli_runner().invoke(
        ops, ["user", "export", str(user.id), "--reason", "a request of the user", "--to", str(path), "--json"]
    )
    assert result.exit_code == 0, result.output
    report = orjson.loads(result.stdout)["report"]
    assert report["file_contents"] == 1
    with zipfile.ZipFile(path) as archive:
        assert contents(archive) == [b"content"]
