"""Exports from a real server: large, read slowly, and truncated."""

import http.client
import io
import secrets
import zipfile
from collections.abc import Iterator
from urllib.parse import urlsplit

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from tests.factories import LoggedInUser, insert_user, make_conversation
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("export-live")]

COUNT, LENGTH = 60, 900_000  # far more than the connection's buffers hold


@pytest.fixture(scope="module")
def server(flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with WebServer(tmp_path_factory.mktemp("web"), DATABASE_URL=database_url, WEB_WORKERS="1") as server:
        yield server


@pytest.fixture
def account(flask_app: Flask, engine: Engine) -> LoggedInUser:
    return insert_user(flask_app, engine)


@pytest.fixture(params=["conversation", "account"])
def is_account(request: pytest.FixtureRequest) -> bool:
    """Whether the whole account is exported instead of one conversation."""
    return bool(request.param == "account")


@pytest.fixture
def export(
    server: WebServer, engine: Engine, account: LoggedInUser, is_account: bool
) -> Iterator[http.client.HTTPResponse]:
    """Yield the unread response to a request for a large document."""
    conversation = make_conversation(engine, account, title="large", message_count=COUNT, next_position=COUNT + 1)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO messages (user_id, conversation_id, position, role, content)"
                " SELECT :u, :c, n, 'assistant', :content FROM generate_series(1, :count) AS n"
            ),
            # Random text, and messages further apart than the compression window.
            {"u": account.id, "c": conversation, "count": COUNT, "content": secrets.token_urlsafe(LENGTH)[:LENGTH]},
        )
    client = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    path = "/api/auth/me/export" if is_account else f"/api/conversations/{conversation}/export"
    client.request("GET", path, headers=account.headers)
    response = client.getresponse()
    assert response.status == 200
    assert response.headers["Transfer-Encoding"] == "chunked"
    yield response
    client.close()


def test_large_export_is_complete_with_bounded_memory(
    server: WebServer, export: http.client.HTTPResponse, is_account: bool
) -> None:
    [worker] = server.workers()
    before = most = worker.memory_info().rss
    raw = bytearray()
    while piece := export.read(1_000_000):
        raw += piece
        most = max(most, worker.memory_info().rss)
    if is_account:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            [name] = [name for name in archive.namelist() if name.startswith("conversations/")]
            raw = bytearray(archive.read(name))
    assert len(raw) > COUNT * LENGTH
    assert len(orjson.loads(raw)["messages"]) == COUNT
    assert most - before < COUNT * LENGTH // 2


def test_slow_reader_holds_no_statement(export: http.client.HTTPResponse, engine: Engine) -> None:
    assert export.read(1) in (b"{", b"P")
    wait_until(lambda: not _busy(engine))  # the server writes until the connection's buffers are full


def _busy(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
                )
            ).scalar_one()
        )


def test_truncated_export_has_no_valid_end(
    server: WebServer, export: http.client.HTTPResponse, engine: Engine, account: LoggedInUser, is_account: bool
) -> None:
    assert export.read(1) in (b"{", b"P")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM conversations WHERE user_id = :u AND title = 'large'"), {"u": account.id})
    message = "Messages of this conversation were deleted during the export"
    if is_account:  # the archive continues, and its manifest lists what is missing
        with zipfile.ZipFile(io.BytesIO(b"P" + export.read())) as archive:
            [reason] = orjson.loads(archive.read("manifest.json"))["unread"].values()
        assert message in reason
        return
    with pytest.raises(http.client.IncompleteRead):
        export.read()
    assert server.http.request("GET", f"{server.url}/health").status == 200
    assert message in server.log()
