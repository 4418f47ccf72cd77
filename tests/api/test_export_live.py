"""An export over a real connection, from a real server: long, slow, and broken off."""

import http.client
import io
import secrets
import time
import zipfile
from collections.abc import Iterator
from urllib.parse import urlsplit

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from tests.factories import Account, make_account, make_conversation
from tests.web.server import WebServer

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("export-live")]

COUNT, LENGTH = 60, 900_000  # far more than what the connection's buffers hold


@pytest.fixture(scope="module")
def server(flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with WebServer(tmp_path_factory.mktemp("web"), DATABASE_URL=database_url, WEB_WORKERS="1") as server:
        yield server


@pytest.fixture
def account(flask_app: Flask, engine: Engine) -> Account:
    return make_account(flask_app, engine)


@pytest.fixture(params=["a conversation", "everything"])
def everything(request: pytest.FixtureRequest) -> bool:
    """Whether it is not one conversation that is exported, but all that somebody has."""
    return bool(request.param == "everything")


@pytest.fixture
def export(server: WebServer, engine: Engine, account: Account, everything: bool) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request for a large document, of which nothing has been read yet."""
    conversation = make_conversation(engine, account, title="large", message_count=COUNT, next_position=COUNT + 1)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO messages (user_id, conversation_id, position, role, content)"
                " SELECT :u, :c, n, 'assistant', :said FROM generate_series(1, :count) AS n"
            ),
            # What no compression makes small: it does not see that the next message is the same.
            {"u": account.id, "c": conversation, "count": COUNT, "said": secrets.token_urlsafe(LENGTH)[:LENGTH]},
        )
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    path = "/api/auth/me/export" if everything else f"/api/conversations/{conversation}/export"
    connection.request("GET", path, headers=account.headers)
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["Transfer-Encoding"] == "chunked"
    yield response
    connection.close()


def test_a_large_document_comes_whole_and_is_never_whole_in_the_server(
    server: WebServer, export: http.client.HTTPResponse, everything: bool
) -> None:
    [worker] = server.workers()
    before = most = worker.memory_info().rss
    raw = bytearray()
    while piece := export.read(1_000_000):
        raw += piece
        most = max(most, worker.memory_info().rss)
    if everything:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            [name] = [name for name in archive.namelist() if name.startswith("conversations/")]
            raw = bytearray(archive.read(name))
    assert len(raw) > COUNT * LENGTH
    assert len(orjson.loads(raw)["messages"]) == COUNT
    assert most - before < COUNT * LENGTH // 2


def test_a_reader_that_takes_its_time_keeps_no_statement_waiting(
    export: http.client.HTTPResponse, engine: Engine
) -> None:
    assert export.read(1) in (b"{", b"P")
    deadline = time.monotonic() + 30
    while _busy(engine):  # the server goes on until the connection's buffers are full
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


def test_a_document_that_is_broken_off_ends_in_no_proper_end(
    server: WebServer, export: http.client.HTTPResponse, engine: Engine, account: Account, everything: bool
) -> None:
    assert export.read(1) in (b"{", b"P")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM conversations WHERE user_id = :u AND title = 'large'"), {"u": account.id})
    why = "Messages of this conversation went away"
    if everything:  # it has more to tell, and says at its end what it could not tell
        with zipfile.ZipFile(io.BytesIO(b"P" + export.read())) as archive:
            [reason] = orjson.loads(archive.read("manifest.json"))["unread"].values()
        assert why in reason
        return
    with pytest.raises(http.client.IncompleteRead):
        export.read()
    assert server.http.request("GET", f"{server.url}/health").status == 200
    assert why in server.log()
