"""Uploads to a server: cut off at any byte, at the same time, on a full disk, and larger than its memory."""

import hashlib
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text

from tests.disks import fill, mount_small_disk
from tests.factories import LoggedInUser
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

MEGABYTE = 1024 * 1024
CUTS = 50
Start = Callable[..., WebServer]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def start(database_url: str, tmp_path: Path, store: Path) -> Iterator[Start]:
    """Return a function that starts a server with the store."""
    servers: list[WebServer] = []

    def start(files: Path = store, **settings: str) -> WebServer:
        settings = {"FILES_URL": files.as_uri(), "WEB_WORKERS": "1", "AI_PROVIDER": "demo", **settings}
        home = tmp_path / "home"
        home.mkdir()
        server = WebServer(home, DATABASE_URL=database_url, **settings)
        servers.append(server)
        return server.__enter__()

    yield start
    for server in servers:
        server.close()


def put_request(headers: dict[str, str], content: bytes) -> bytes:
    return _request("PUT", "/api/files?name=a.txt", {**headers, "Content-Type": "text/plain"}, content)


def form_request(headers: dict[str, str], content: bytes) -> bytes:
    disposition = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    types = {**headers, "Content-Type": "multipart/form-data; boundary=b"}
    return _request("POST", "/api/files", types, disposition + content + b"\r\n--b--\r\n")


def _request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: parley", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def files_of(engine: Engine, user: LoggedInUser) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT sha256 FROM files WHERE user_id = :id"), {"id": user.id}))


@pytest.mark.parametrize("request_of", [put_request, form_request])
def test_upload_that_is_cut_off_leaves_nothing(
    start: Start, store: Path, user: LoggedInUser, engine: Engine, request_of: Callable[..., bytes]
) -> None:
    server = start()
    data = request_of(user.headers, b"0123456789abcdef" * 50_000)
    end = len(data) - len(b"\r\n--b--\r\n")  # a form whose boundary has come is complete
    cuts = random.Random(14).sample(range(1, end), CUTS)  # no secret
    for cut in cuts:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(data[:cut])
    url = f"http://127.0.0.1:{server.port}/api/files"

    def uploads() -> bool:
        """Upload a whole file. The four uploads at once of the user are in use until the ones that were cut off end."""
        answer = httpx.put(url, params={"name": "b.txt"}, content=b"x", headers=user.headers, timeout=60)
        assert answer.status_code in (201, 429)
        return answer.status_code == 201

    wait_until(uploads)
    wait_until(lambda: len(list(store.iterdir())) == 1)
    assert len(files_of(engine, user)) == 1


def test_equal_uploads_at_once_store_one_object(start: Start, store: Path, user: LoggedInUser, engine: Engine) -> None:
    server = start(WEB_WORKERS="2")
    url = f"http://127.0.0.1:{server.port}/api/files"

    def upload(_: int) -> int:
        content = b"equal" * 100_000
        return httpx.put(url, params={"name": "a.txt"}, content=content, headers=user.headers, timeout=60).status_code

    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(upload, range(4)))
    assert set(statuses) <= {200, 201}
    assert statuses.count(201) == 1
    assert len(files_of(engine, user)) == 1
    assert len(list(store.iterdir())) == 1


def test_upload_to_a_full_disk_is_507_and_leaves_nothing(
    start: Start, tmp_path: Path, user: LoggedInUser, engine: Engine
) -> None:
    with mount_small_disk(tmp_path / "small", megabytes=4) as disk:
        folder = disk / "store"
        folder.mkdir()
        server = start(folder)
        url = f"http://127.0.0.1:{server.port}/api/files"
        ballast = fill(disk)
        answer = httpx.put(url, params={"name": "a.txt"}, content=b"x" * 9999, headers=user.headers, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
        assert not any(folder.iterdir())
        ballast.unlink()
        answer = httpx.put(url, params={"name": "a.txt"}, content=b"x" * 9999, headers=user.headers, timeout=60)
        assert answer.status_code == 201
        server.close()
    assert len(files_of(engine, user)) == 1


def test_upload_is_not_held_in_memory(start: Start, user: LoggedInUser, engine: Engine) -> None:
    """The worker's memory grows by far less than the upload has."""
    megabytes = 96
    server = start(FILES_MAX_FILE_BYTES=str(4096 * MEGABYTE), USER_MAX_BYTES=str(8192 * MEGABYTE))
    url = f"http://127.0.0.1:{server.port}/api/files"
    content = b"0123456789abcdef" * (MEGABYTE // 16)

    def upload(count: int) -> int:
        size = {"Content-Length": str(count * MEGABYTE)}
        pieces = (content for _ in range(count))
        headers = {**user.headers, **size}
        return httpx.put(url, params={"name": f"{count}.txt"}, content=pieces, headers=headers, timeout=600).status_code

    assert upload(4) == 201  # the first upload imports what it needs
    workers = server.workers()
    before = sum(worker.memory_info().rss for worker in workers)
    assert upload(megabytes) == 201
    growth = sum(worker.memory_info().rss for worker in workers) - before
    assert growth < megabytes * MEGABYTE / 3
    digest = hashlib.sha256()
    for _ in range(megabytes):
        digest.update(content)
    assert digest.hexdigest() in files_of(engine, user)
