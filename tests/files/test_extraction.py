"""The job files.extract: from an upload to the passages."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings
from app.container import current_settings
from app.extraction.process import is_separated_from_network
from app.jobs import Message
from app.services import file_texts
from app.services.file_store import open_file_store
from app.services.file_text_requests import ExtractionRequests
from app.services.file_texts import ATTEMPTS, Claim, extract_claimed, extraction_limits
from app.storage.errors import StorageUnavailable
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.maintenance.file_texts import FileExtractionReport, extract_texts
from tests.factories import LoggedInUser
from tests.files import documents
from tests.files.test_purge import Put
from tests.files.test_purge import put as put
from tests.waiting import wait_until

FIRST = UUID(int=0)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

View = Callable[[dict[str, Any]], dict[str, Any]]
Rows = Callable[..., list[Any]]


@pytest.fixture
def view(client: FlaskClient, user: LoggedInUser) -> View:
    """Return a function that returns the text of a file in the API."""
    return lambda file: dict(client.get(f"/api/files/{file['id']}", headers=user.headers).json["text"])


@pytest.fixture
def rows(engine: Engine) -> Rows:
    """Return a function that executes a statement and returns its rows."""

    def rows(statement: str, **parameters: Any) -> list[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    return rows


@pytest.fixture
def due(rows: Rows) -> Callable[[], list[Any]]:
    """Return a function after which all pending texts are due."""
    return lambda: rows("UPDATE file_texts SET retry_at = now() WHERE state = 'pending'")


def run(flask_app: Flask) -> FileExtractionReport:
    with flask_app.app_context():
        return extract_texts()


def claimed(after: UUID = FIRST) -> Claim:
    claim = file_texts.claim_next(after)
    assert claim is not None
    return claim


def extract(claim: Claim) -> str:
    store = open_file_store(current_settings())
    return extract_claimed(claim, store, extraction_limits(current_settings().files))


def test_text_of_upload_becomes_ready(
    client: FlaskClient, user: LoggedInUser, put: Put, view: View, flask_app: Flask, rows: Rows
) -> None:
    file, image = put(documents.pdf(["A heat pump", "moves heat"]), "a.pdf"), put(PNG, "a.png")
    none = {"reason": None, "message": None, "characters": 0, "truncated": False}
    assert file["text"] == view(file) == {"state": "pending", **none}
    assert image["text"] == view(image) == {"state": "none", **none}
    assert run(flask_app) == FileExtractionReport(ready=1)
    ready = {"state": "ready", **none, "characters": 23}
    assert view(file) == ready
    listed = client.get("/api/files", headers=user.headers).json["items"]
    assert [item["text"] for item in listed] == [{"state": "none", **none}, ready]
    assert rows("SELECT ordinal, start, page, content FROM file_passages ORDER BY ordinal") == [
        (1, 0, 1, "A heat pump\n\n"),
        (2, 13, 2, "moves heat"),
    ]
    assert rows("SELECT ordinal FROM file_passages WHERE search @@ 'pump'::tsquery") == [(1,)]
    assert run(flask_app) == FileExtractionReport()


def test_wrong_extension_does_not_matter(put: Put, view: View, flask_app: Flask) -> None:
    files = [put(documents.word("A heat pump"), "a.pdf"), put(documents.pdf(["A heat pump"]), "a.docx")]
    assert run(flask_app) == FileExtractionReport(ready=2)
    assert [view(file)["characters"] for file in files] == [11, 11]


def test_file_that_cannot_be_read_says_why_and_blocks_no_other(put: Put, view: View, flask_app: Flask) -> None:
    bad = put(documents.encrypted_pdf(), "a.pdf")
    bomb = put(documents.zip_bomb(250_000_000), "a.docx")
    good = put(b"text")
    assert run(flask_app) == FileExtractionReport(ready=1, failed=2)
    assert view(bad) == {
        "state": "failed",
        "reason": "encrypted",
        "message": "The file is protected by a password; upload it without one.",
        "characters": 0,
        "truncated": False,
    }
    assert view(bomb)["reason"] == "too_large"
    assert view(good)["state"] == "ready"
    assert run(flask_app) == FileExtractionReport()


def test_scan_is_ready_without_characters(put: Put, view: View, flask_app: Flask) -> None:
    scan = put(documents.pdf_of([b"0 0 m 100 100 l S"]), "scan.pdf")
    assert run(flask_app) == FileExtractionReport(ready=1)
    assert (view(scan)["state"], view(scan)["characters"]) == ("ready", 0)


def test_passages_are_the_cut_text_and_are_counted_as_stored(
    put: Put, view: View, flask_app: Flask, rows: Rows, user: LoggedInUser
) -> None:
    content = "Ein Wärmepumpensatz. " * 60_000
    file = put(content.encode())
    assert run(flask_app) == FileExtractionReport(ready=1)
    assert (view(file)["characters"], view(file)["truncated"]) == (1_000_000, True)
    found = rows("SELECT start, content FROM file_passages ORDER BY ordinal")
    assert "".join(row.content for row in found) == content[:1_000_000]
    assert [row.start for row in found] == [
        0,
        *itertools.accumulate(len(row.content) for row in found[:-1]),
    ]
    stored = "SELECT sum(bytes)::int FROM stored_bytes WHERE user_id = :u"
    assert rows(stored, u=user.id) == [(len(content.encode()) + len(content[:1_000_000].encode()),)]
    rows("DELETE FROM files WHERE user_id = :u", u=user.id)
    assert rows(stored, u=user.id) == [(len(content.encode()),)]


def test_nothing_is_extracted_if_it_is_off(put: Put, view: View, flask_app: Flask, settings: Settings) -> None:
    off = replace(settings, files=settings.files.model_copy(update={"extract": False}))
    file = put(b"text")
    flask_app.extensions["parley.settings"] = off
    assert run(flask_app) == FileExtractionReport()
    assert view(file)["state"] == "none"
    flask_app.extensions["parley.settings"] = settings
    assert run(flask_app) == FileExtractionReport(ready=1)
    assert view(file)["state"] == "ready"


def test_users_take_turns(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, put: Put, flask_app: Flask
) -> None:
    for number in range(4):
        put(b"%d" % number)
    client.put("/api/files", query_string={"name": "a.txt"}, data=b"x", headers=other_user.headers)
    with flask_app.app_context():
        first = claimed()
        second = claimed(first.user_id)
        assert {first.user_id, second.user_id} == {user.id, other_user.id}
        assert file_texts.claim_next(max(user.id, other_user.id)) is None


def test_file_that_is_deleted_during_the_extraction_leaves_nothing(
    client: FlaskClient, user: LoggedInUser, put: Put, flask_app: Flask, rows: Rows
) -> None:
    file = put(b"text")
    with flask_app.app_context():
        claim = claimed()
        assert client.delete(f"/api/files/{file['id']}", headers=user.headers).status_code == 204
        assert extract(claim) == "deleted"
    assert rows("SELECT FROM file_passages") == rows("SELECT FROM file_texts") == []


def test_attempt_that_was_overtaken_stores_nothing(
    put: Put, flask_app: Flask, rows: Rows, due: Callable[[], list[Any]]
) -> None:
    put(b"text")
    with flask_app.app_context():
        overtaken = claimed()
        due()
        current = claimed()
        assert current.attempt == 2
        assert extract(overtaken) == "deleted"
        assert rows("SELECT FROM file_passages") == []
        assert extract(current) == "ready"
        assert extract(overtaken) == "deleted"
    assert len(rows("SELECT FROM file_passages")) == 1


def test_text_whose_process_always_ends_is_given_up(
    put: Put, view: View, flask_app: Flask, rows: Rows, due: Callable[[], list[Any]]
) -> None:
    file = put(b"text")
    with flask_app.app_context():
        for _ in range(ATTEMPTS):
            claim = claimed()
            due()
    rows(
        "INSERT INTO file_passages (user_id, file_id, ordinal, start, content, search)"
        " VALUES (:u, :f, 1, 0, 'written before the end', '')",
        u=claim.user_id,
        f=claim.file_id,
    )
    assert run(flask_app) == FileExtractionReport(failed=1)
    assert view(file)["reason"] == "crashed"
    assert rows("SELECT FROM file_passages") == []


def test_passages_of_an_ended_attempt_are_replaced(
    put: Put, flask_app: Flask, rows: Rows, due: Callable[[], list[Any]]
) -> None:
    put(b"text")
    with flask_app.app_context():
        claim = claimed()
    for ordinal in (1, 2):
        rows(
            "INSERT INTO file_passages (user_id, file_id, ordinal, start, content, search)"
            " VALUES (:u, :f, :o, 0, 'written before the end', '')",
            u=claim.user_id,
            f=claim.file_id,
            o=ordinal,
        )
    due()
    assert run(flask_app) == FileExtractionReport(ready=1)
    assert rows("SELECT ordinal, content FROM file_passages") == [(1, "text")]


def test_file_that_takes_too_long_is_tried_again_and_given_up(
    put: Put, view: View, flask_app: Flask, settings: Settings, due: Callable[[], list[Any]]
) -> None:
    flask_app.extensions["parley.settings"] = replace(
        settings, files=settings.files.model_copy(update={"extract_seconds": 1})
    )
    file = put(documents.endless_pdf(), "a.pdf")
    assert run(flask_app) == FileExtractionReport(retried=1, pending=1)
    assert run(flask_app) == FileExtractionReport(pending=1)
    due()
    assert run(flask_app) == FileExtractionReport(retried=1, pending=1)
    due()
    assert run(flask_app) == FileExtractionReport(failed=1)
    assert view(file)["reason"] == "time"


def test_store_that_is_away_costs_no_attempt(
    put: Put, flask_app: Flask, rows: Rows, store: Path, due: Callable[[], list[Any]]
) -> None:
    for number in range(4):
        put(b"%d" % number)
    away = store.rename(store.with_name("away"))
    with pytest.raises(StorageUnavailable):
        run(flask_app)
    assert set(rows("SELECT state, attempts FROM file_texts")) == {("pending", 0)}
    away.rename(store)
    due()
    assert run(flask_app) == FileExtractionReport(ready=4)


def test_missing_content_is_tried_again_and_fails(
    put: Put, view: View, flask_app: Flask, store: Path, due: Callable[[], list[Any]]
) -> None:
    file = put(b"gone")
    [path] = store.iterdir()
    path.unlink()
    other = put(b"there")
    assert run(flask_app) == FileExtractionReport(ready=1, retried=1, pending=1)
    for _ in range(ATTEMPTS - 1):
        due()
        run(flask_app)
    assert (view(file)["reason"], view(other)["state"]) == ("missing", "ready")


class _Queue:
    """Collects messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def put(self, message: Message) -> None:
        self.messages.append(message)


def test_uploads_share_a_message() -> None:
    queue = _Queue()
    requests = ExtractionRequests(queue, delay=0.2, pause=0.0)  # type: ignore[arg-type]
    for _ in range(100):
        requests.add()
    wait_until(lambda: queue.messages)
    assert [message.name for message in queue.messages] == ["files.extract"]
    requests.add()
    wait_until(lambda: len(queue.messages) == 2)


def test_missing_isolation_is_the_only_finding_of_its_check(flask_app: Flask) -> None:
    with flask_app.app_context():
        [result] = run_doctor(checks=select_checks(["files.isolation"])).results
    assert [finding.object for finding in result.findings] == ([] if is_separated_from_network() else ["namespaces"])
