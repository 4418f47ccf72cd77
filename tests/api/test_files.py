"""Uploading, listing, downloading and deleting files."""

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.errors import TooManyFiles
from app.ids import new_id
from app.services.file_uploads import AT_ONCE
from tests.api.rows import walk
from tests.factories import LoggedInUser

URL = "/api/files"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
DOCX = b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + b"\x00" * 16 + b"\x11\x00\x00\x00word/document.xml" + b"\x00" * 40
DOCX_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

Put = Callable[..., TestResponse]


@pytest.fixture
def put(client: FlaskClient, user: LoggedInUser) -> Put:
    """Return a function that uploads bytes under a name."""
    return lambda content, name="notes.txt", url=URL, account=user: client.put(
        url, query_string={"name": name}, data=content, headers=account.headers
    )


@pytest.fixture
def project(client: FlaskClient, user: LoggedInUser) -> str:
    return str(client.post("/api/projects", json={"name": "P"}, headers=user.headers).json["id"])


def posted(client: FlaskClient, account: LoggedInUser, content: bytes, name: str, url: str = URL) -> TestResponse:
    form = {"file": (io.BytesIO(content), name)}
    return client.post(url, data=form, content_type="multipart/form-data", headers=account.headers)


def objects(flask_app: Flask) -> set[str]:
    folder: Path = flask_app.extensions["parley"].settings.server.home / "files"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize(
    ("content", "name", "media_type"),
    [
        (PDF, "a.pdf", "application/pdf"),
        (PDF, "a.txt", "application/pdf"),
        (PNG, "a.png", "image/png"),
        (b"GIF89a" + b"\x00\xff" * 20, "a.gif", "image/gif"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"\x00" * 20, "a.jpg", "image/jpeg"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 " + b"\x00" * 20, "a", "image/webp"),
        (DOCX, "a.docx", DOCX_TYPE),
        ("Grüße, 東京".encode(), "a.txt", "text/plain"),
        (b"# Title", "README.MD", "text/markdown"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b"<script>alert(1)</script>", "a.html", "text/html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", "text/plain"),
        (b"{}", "a.json", "application/json"),
        (b"print(1)", "a.py", "text/plain"),
        (b"x", "a.pdf", "text/plain"),
    ],
)
def test_media_type_is_found_from_the_content(put: Put, content: bytes, name: str, media_type: str) -> None:
    response = put(content, name)
    assert response.status_code == 201, response.text
    assert response.json["media_type"] == media_type
    assert (response.json["name"], response.json["bytes"]) == (name, len(content))
    assert response.json["sha256"] == hashlib.sha256(content).hexdigest()
    assert response.headers["Location"].endswith(f"{URL}/{response.json['id']}")


@pytest.mark.parametrize(
    "content",
    [
        b"MZ\x90\x00\x03\x00\x00\x00\xff\xff",
        b"\x7fELF\x02\x01\x01\x00",
        b"PK\x03\x04" + b"\x00" * 60,  # a ZIP file that is no document
        b"\x00\x01\x02\x03",
        b"text with a NUL \x00 byte",
        "Grüße".encode("latin-1"),
        b"valid until the cut \xe2\x82",
    ],
)
def test_content_of_another_type_is_refused(put: Put, flask_app: Flask, content: bytes) -> None:
    before = objects(flask_app)
    response = put(content, "harmless.txt")
    assert (response.status_code, response.json["code"]) == (415, "unsupported_file"), response.text
    assert objects(flask_app) == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../a.txt",
        "a/b.txt",
        "a\\b.txt",
        "a\u202etxt.exe",
        "a\nb",
        "a\tb",
        " a.txt",
        "\u200b",
        "x" * 256,
    ],
)
def test_unusable_name_is_refused(put: Put, name: str) -> None:
    response = put(b"x", name)
    assert response.status_code == 400, response.text
    assert "name" in response.json["errors"]


def test_empty_file_is_refused(put: Put, client: FlaskClient, user: LoggedInUser) -> None:
    for response in (put(b""), posted(client, user, b"", "a.txt")):
        assert (response.status_code, response.json["errors"]["file"]) == (400, ["The file is empty."])


def test_form_is_stored_as_raw_body_is(client: FlaskClient, user: LoggedInUser, put: Put) -> None:
    content = PDF + bytes(range(256)) * 1_500 + b"\r\n--" * 1000
    form, raw = posted(client, user, content, "Prüfung 東京.pdf"), put(content, "Prüfung 東京.pdf")
    assert (form.status_code, raw.status_code) == (201, 200), form.text  # the second is the same file
    assert form.json == raw.json


FORM = "multipart/form-data; boundary=b"


def part(field: str, content: str) -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {field}\r\n\r\n{content}".encode()


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"x", "text/plain"),
        (b"x", "multipart/form-data"),
        (b"not a form", FORM),
        (part('name="file"; filename="a"', "cut"), FORM),
        (b"--b--\r\n", FORM),
        (part('name="other"', "x\r\n--b--\r\n"), FORM),
        (part('name="file"', "x\r\n--b--\r\n"), FORM),
        (b"--b\r\n" + b"X: y\r\n" * 100_000, FORM),
        (part('name="file"; filename="a"', "x\r\n") + part('name="file"; filename="c"', "y\r\n--b--\r\n"), FORM),
    ],
)
def test_malformed_form_stores_nothing(
    client: FlaskClient, user: LoggedInUser, flask_app: Flask, data: bytes, content_type: str
) -> None:
    before = objects(flask_app)
    response = client.post(URL, data=data, content_type=content_type, headers=user.headers)
    assert response.status_code == 400, response.text
    assert objects(flask_app) == before
    assert walk(client, user, URL, limit=10) == []


def test_equal_content_is_stored_once(client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask) -> None:
    before = objects(flask_app)
    first, second = put(b"same", "a.txt").json, put(b"same", "b.txt").json
    again = posted(client, user, b"same", "a.txt").json
    assert len({first["id"], second["id"], again["id"]}) == 3
    assert len(objects(flask_app) - before) == 1
    for file in (first, second, again):
        assert client.get(f"{URL}/{file['id']}/content", headers=user.headers).data == b"same"
        assert client.delete(f"{URL}/{file['id']}", headers=user.headers).status_code == 204
    assert client.get(f"{URL}/{first['id']}/content", headers=user.headers).status_code == 404


def test_deleted_content_is_to_be_removed(
    client: FlaskClient, user: LoggedInUser, put: Put, engine: Engine, flask_app: Flask
) -> None:
    before = objects(flask_app)
    file = put(b"soon gone").json
    [name] = objects(flask_app) - before
    client.delete(f"{URL}/{file['id']}", headers=user.headers)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM file_removals WHERE object = :o"), {"o": name}
        ).scalar_one()
    assert found == 1


def test_files_are_listed_newest_first(client: FlaskClient, user: LoggedInUser, put: Put, project: str) -> None:
    ids = [put(f"{n}".encode(), f"{n}.txt").json["id"] for n in range(5)]
    own = [put(f"{n}".encode(), f"{n}.txt", f"/api/projects/{project}/files").json["id"] for n in range(3)]
    assert [item["id"] for item in walk(client, user, URL, limit=3)] == [*own[::-1], *ids[::-1]]
    for url, query in ((f"/api/projects/{project}/files", {}), (URL, {"project_id": project})):
        assert [item["id"] for item in walk(client, user, url, limit=2, **query)] == own[::-1]


def test_project_that_is_missing_is_not_found(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask
) -> None:
    before = objects(flask_app)
    url = f"/api/projects/{new_id()}/files"
    assert put(b"x", url=url).status_code == 404
    assert posted(client, user, b"x", "a.txt", url).status_code == 404
    assert client.get(url, headers=user.headers).status_code == 404
    assert objects(flask_app) == before


def test_file_of_another_user_is_not_found(
    client: FlaskClient, user: LoggedInUser, put: Put, make_user: Callable[..., LoggedInUser], project: str
) -> None:
    file = put(b"mine", url=f"/api/projects/{project}/files").json
    other = make_user()
    for method, path in (
        ("GET", f"{URL}/{file['id']}"),
        ("GET", f"{URL}/{file['id']}/content"),
        ("DELETE", f"{URL}/{file['id']}"),
        ("GET", f"/api/projects/{project}/files"),
        ("PUT", f"/api/projects/{project}/files?name=a.txt"),
    ):
        response = client.open(path, method=method, data=b"x" if method == "PUT" else None, headers=other.headers)
        assert response.status_code == 404, (method, path, response.text)
    assert walk(client, other, URL, limit=10) == []
    assert put(b"mine", account=other).json["id"] != file["id"]


def test_deleted_project_has_no_files(client: FlaskClient, user: LoggedInUser, put: Put, project: str) -> None:
    file = put(b"x", url=f"/api/projects/{project}/files").json
    client.delete(f"/api/projects/{project}", headers=user.headers)
    assert client.get(f"{URL}/{file['id']}", headers=user.headers).status_code == 404


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        (None, 200, 0, None),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=1048570-1048590", 206, 1_048_570, 1_048_591),
        ("bytes=2000000-", 206, 2_000_000, None),
        ("bytes=-5", 206, -5, None),
        ("bytes=5000000-", 416, 0, 0),
        ("lines=1-2", 416, 0, 0),
    ],
)
def test_range_of_content_is_downloaded(
    client: FlaskClient, user: LoggedInUser, put: Put, asked: str | None, status: int, start: int, end: int | None
) -> None:
    content = PNG + bytes(range(256)) * 10_000
    file = put(content, "a.png").json
    headers = user.headers if asked is None else {**user.headers, "Range": asked}
    response = client.get(f"{URL}/{file['id']}/content", headers=headers)
    assert response.status_code == status, response.text
    if status != 416:
        assert response.data == content[start:end]
        assert response.headers["ETag"] == f'"{file["sha256"]}"'
        assert response.headers["Accept-Ranges"] == "bytes"


def test_unchanged_content_is_neither_read_nor_sent(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask
) -> None:
    before = objects(flask_app)
    file = put(PNG, "a.png").json
    [name] = objects(flask_app) - before
    (flask_app.extensions["parley"].settings.server.home / "files" / name).unlink()
    headers = {**user.headers, "If-None-Match": f'"{file["sha256"]}"'}
    response = client.get(f"{URL}/{file['id']}/content", headers=headers)
    assert (response.status_code, response.data) == (304, b"")
    head = client.head(f"{URL}/{file['id']}/content", headers=user.headers)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(PNG)))


@pytest.mark.parametrize("name", ["a.html", "a.svg", "Grüße.txt"])
def test_content_is_never_shown_by_a_browser(client: FlaskClient, user: LoggedInUser, put: Put, name: str) -> None:
    file = put(b"<svg onload='alert(1)'/>", name).json
    response = client.get(f"{URL}/{file['id']}/content", headers=user.headers)
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert response.mimetype not in ("text/html", "image/svg+xml")


def test_missing_object_is_an_error(client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask) -> None:
    before = objects(flask_app)
    file = put(b"lost").json
    [name] = objects(flask_app) - before
    (flask_app.extensions["parley"].settings.server.home / "files" / name).unlink()
    response = client.get(f"{URL}/{file['id']}/content", headers=user.headers)
    assert (response.status_code, response.json["code"]) == (503, "file_store_unavailable")


def test_limits_are_those_of_the_user(
    make_chat_app: Callable[..., Flask], user: LoggedInUser, engine: Engine, tmp_path: Path
) -> None:
    limited = make_chat_app(
        files={"max_file_bytes": 1_000, "max_per_user": 2}, chat={"user_max_bytes": 2_500}
    ).test_client()

    def put(content: bytes, name: str) -> Any:
        return limited.put(URL, query_string={"name": name}, data=content, headers=user.headers)

    assert put(b"x" * 1_001, "large.txt").json["code"] == "too_large"
    assert put(b"x" * 100_000, "larger.txt").json["code"] == "too_large"
    assert put(b"x" * 1_000, "a.txt").status_code == 201
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET max_bytes = 1500 WHERE id = :id"), {"id": user.id})
    assert put(b"y" * 900, "b.txt").json["code"] == "storage_limit_reached"
    assert put(b"y" * 400, "b.txt").status_code == 201
    assert put(b"z", "c.txt").json["code"] == "too_many_files"


def test_uploads_at_once_are_bounded_for_each_user(
    flask_app: Flask, user: LoggedInUser, make_user: Callable[..., LoggedInUser]
) -> None:
    before, other = objects(flask_app), make_user()
    uploads = flask_app.extensions["parley"].uploads

    def body(begun: int) -> Iterator[bytes]:
        """Begin the next upload in the middle of this one."""
        yield b"x"
        uploads.receive(user.id, body(begun + 1), name="a.txt")

    with flask_app.app_context():
        with pytest.raises(TooManyFiles, match=f"uploading {AT_ONCE} files"):
            uploads.receive(user.id, body(1), name="a.txt")
        assert objects(flask_app) == before
        for account in (user, other):  # all slots are free again
            assert uploads.receive(account.id, iter([b"x"]), name="a.txt")[1]
