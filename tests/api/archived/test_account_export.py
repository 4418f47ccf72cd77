"""Export of an account over HTTP, bundled conversations included."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.services import exports, user_exports
from app.services.user_exports import SECRETS, open_user_export
from app.storage.base import Store
from ops.users.export import write_user_export
from tests.api.keys import make_key
from tests.bundling import UNUSUAL_MESSAGES, archive_all, make_idle, numbered_messages, storage_state
from tests.factories import LoggedInUser

PATH = "/api/auth/me/export"


def no_files() -> Store:
    """Fail, because these users have no files."""
    raise AssertionError("the store of files was opened")


def contents(raw: bytes) -> dict[str, Any]:
    """Return the content of the file without its creation times."""
    files = {}
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith(".jsonl"):
                files[name] = [orjson.loads(line) for line in data.splitlines()]
            else:
                files[name] = {key: value for key, value in orjson.loads(data).items() if key != "exported_at"}
    return files


def test_export_equals_command_output_and_has_no_other_users(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, tmp_path: Path
) -> None:
    make_key(flask_app, user)
    bundled, live = make_idle(engine, user, UNUSUAL_MESSAGES), make_idle(engine, user, numbered_messages(3))
    make_idle(engine, other_user, numbered_messages(2))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE sessions SET previous_refresh_hash = refresh_hash, first_successor_hash = refresh_hash")
        )
    assert client.post(f"/api/conversations/{live}/unarchive", headers=user.headers).status_code == 200
    before = [storage_state(engine, conversation) for conversation in (bundled, live)]
    assert [storage for _, storage, _, _ in before] == ["bundled", "live"]
    answer = client.get(PATH, headers=user.headers)
    assert (answer.status_code, answer.content_type) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="parley-{user.id}.zip"'
    exported = contents(answer.data)
    with flask_app.app_context():
        write_user_export(open_user_export(user.id, no_files), path=tmp_path / "all.zip")
    assert exported == contents((tmp_path / "all.zip").read_bytes())
    assert exported["account.json"]["email"] == user.email
    assert exported["manifest.json"]["conversations"] == len(exported["conversations.jsonl"]) == 2
    assert exported["manifest.json"]["unread"] == {}
    texts = [message["content"] for message in exported[f"conversations/{bundled}.json"]["messages"]]
    assert texts == [message["content"] for message in UNUSUAL_MESSAGES]
    assert [
        storage_state(engine, conversation) for conversation in (bundled, live)
    ] == before  # the export changes nothing
    for name, rows in exported.items():
        for row in rows if isinstance(rows, list) else [rows]:
            assert SECRETS.isdisjoint(row), name
            assert row.get("user_id", str(user.id)) == str(user.id)


def test_export_with_key_is_403(flask_app: Flask, client: FlaskClient, user: LoggedInUser) -> None:
    assert client.get(PATH).status_code == 401
    assert client.get(PATH, headers=make_key(flask_app, user).headers).status_code == 403


def test_damaged_bundle_does_not_affect_other_conversations(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: LoggedInUser
) -> None:
    damaged, intact = make_idle(engine, user, numbered_messages(3)), make_idle(engine, user, numbered_messages(3))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE conversation_archives SET sha256 = sha256(bundle) WHERE conversation_id = :c"), {"c": damaged}
        )
    exported = contents(client.get(PATH, headers=user.headers).data)
    assert list(exported["manifest.json"]["unread"]) == [str(damaged)]
    assert exported["manifest.json"]["unread"][str(damaged)]
    assert f"conversations/{damaged}.json" not in exported
    assert len(exported[f"conversations/{intact}.json"]["messages"]) == 3


def test_conversation_deleted_before_its_export_is_omitted(
    flask_app: Flask, engine: Engine, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_exports, "_PIECE", 1)
    first, second = make_idle(engine, user, numbered_messages(3)), make_idle(engine, user, numbered_messages(3))
    with flask_app.app_context():
        export = open_user_export(user.id, no_files)
        exported = bytearray()
        for piece in export.pieces():
            if export.rows.get("conversations") == 2:
                with engine.begin() as connection:
                    connection.execute(text("DELETE FROM conversations WHERE id = :c"), {"c": second})
            exported += piece
    files = contents(bytes(exported))
    assert [name for name in files if name.startswith("conversations/")] == [f"conversations/{first}.json"]


def test_conversation_deleted_during_its_export_is_truncated_and_listed(
    flask_app: Flask, engine: Engine, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_exports, "_PIECE", 1)
    monkeypatch.setattr(exports, "_PAGE_MESSAGES", 1)
    first, second = make_idle(engine, user, numbered_messages(3)), make_idle(engine, user, numbered_messages(3))
    with flask_app.app_context():
        pieces = open_user_export(user.id, no_files).pieces()
        exported = bytearray()
        while str(first).encode() not in exported[-200:] or b"conversations/" not in exported[-200:]:
            exported += next(pieces)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM conversations WHERE id = :c"), {"c": first})
        exported += b"".join(pieces)
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        manifest = orjson.loads(archive.read("manifest.json"))
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(archive.read(f"conversations/{first}.json"))
        assert len(orjson.loads(archive.read(f"conversations/{second}.json"))["messages"]) == 3
    assert manifest["conversations"] == 1
    assert list(manifest["unread"]) == [str(first)]


@pytest.fixture
def limited(settings: Settings, flask_app: Flask) -> Iterator[FlaskClient]:
    changed = settings.limits.model_copy(update={"exports_per_hour": 2})
    made = create_app(replace(settings, limits=changed))
    yield made.test_client()
    with made.app_context():
        db.engine.dispose()


def test_exports_per_hour_are_limited(limited: FlaskClient, user: LoggedInUser, other_user: LoggedInUser) -> None:
    assert [limited.get(PATH, headers=user.headers).status_code for _ in range(3)] == [200, 200, 429]
    refused = limited.get(PATH, headers=user.headers)
    assert refused.get_json()["code"] == "rate_limited"
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
    assert limited.get(PATH, headers=other_user.headers).status_code == 200
