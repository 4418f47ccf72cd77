"""Everything that a person has, over HTTP: the same that the command writes, archived conversations too."""

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
from app.services import account_exports, exports
from app.services.account_exports import SECRETS, open_account
from ops.accounts.export import write_account
from tests.api.keys import make_key
from tests.archived import EVERYTHING, archive_all, make_idle, place, plain
from tests.factories import Account

PATH = "/api/auth/me/export"


def contents(raw: bytes) -> dict[str, Any]:
    """What is in the file, but for the moments at which it was made."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            held = archive.read(name)
            if name.endswith(".jsonl"):
                found[name] = [orjson.loads(line) for line in held.splitlines()]
            else:
                found[name] = {key: value for key, value in orjson.loads(held).items() if key != "exported_at"}
    return found


def test_it_is_what_the_command_writes_and_nobody_elses(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: Account, other_user: Account, tmp_path: Path
) -> None:
    make_key(flask_app, user)
    bundled, live = make_idle(engine, user, EVERYTHING), make_idle(engine, user, plain(3))
    make_idle(engine, other_user, plain(2))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(text("UPDATE sessions SET previous_refresh_hash = refresh_hash"))
    assert client.post(f"/api/conversations/{live}/unarchive", headers=user.headers).status_code == 200
    before = [place(engine, each) for each in (bundled, live)]
    assert [storage for _, storage, _, _ in before] == ["bundled", "live"]
    answer = client.get(PATH, headers=user.headers)
    assert (answer.status_code, answer.content_type) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="parley-{user.id}.zip"'
    told = contents(answer.data)
    with flask_app.app_context():
        write_account(open_account(user.id), path=tmp_path / "all.zip")
    assert told == contents((tmp_path / "all.zip").read_bytes())
    assert told["account.json"]["email"] == user.email
    assert told["manifest.json"]["conversations"] == len(told["conversations.jsonl"]) == 2
    assert told["manifest.json"]["unread"] == {}
    spoken = [message["content"] for message in told[f"conversations/{bundled}.json"]["messages"]]
    assert spoken == [message["content"] for message in EVERYTHING]
    assert [place(engine, each) for each in (bundled, live)] == before  # it was only looked at
    for name, rows in told.items():
        for row in rows if isinstance(rows, list) else [rows]:
            assert SECRETS.isdisjoint(row), name
            assert row.get("user_id", str(user.id)) == str(user.id)


def test_no_key_opens_it(flask_app: Flask, client: FlaskClient, user: Account) -> None:
    assert client.get(PATH).status_code == 401
    assert client.get(PATH, headers=make_key(flask_app, user).headers).status_code == 403


def test_a_bundle_that_is_damaged_keeps_nothing_else_back(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: Account
) -> None:
    damaged, whole = make_idle(engine, user, plain(3)), make_idle(engine, user, plain(3))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE conversation_archives SET sha256 = sha256(bundle) WHERE conversation_id = :c"), {"c": damaged}
        )
    told = contents(client.get(PATH, headers=user.headers).data)
    assert list(told["manifest.json"]["unread"]) == [str(damaged)]
    assert told["manifest.json"]["unread"][str(damaged)]
    assert f"conversations/{damaged}.json" not in told
    assert len(told[f"conversations/{whole}.json"]["messages"]) == 3


def test_what_is_deleted_meanwhile_is_left_out(
    flask_app: Flask, engine: Engine, user: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_exports, "_PIECE", 1)
    first, second = make_idle(engine, user, plain(3)), make_idle(engine, user, plain(3))
    with flask_app.app_context():
        export = open_account(user.id)
        told = bytearray()
        for piece in export.pieces():
            if export.rows.get("conversations") == 2:
                with engine.begin() as connection:
                    connection.execute(text("DELETE FROM conversations WHERE id = :c"), {"c": second})
            told += piece
    found = contents(bytes(told))
    assert [name for name in found if name.startswith("conversations/")] == [f"conversations/{first}.json"]


def test_what_is_deleted_while_it_is_told_is_cut_off_and_named(
    flask_app: Flask, engine: Engine, user: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_exports, "_PIECE", 1)
    monkeypatch.setattr(exports, "_PAGE_MESSAGES", 1)
    first, second = make_idle(engine, user, plain(3)), make_idle(engine, user, plain(3))
    with flask_app.app_context():
        pieces = open_account(user.id).pieces()
        told = bytearray()
        while str(first).encode() not in told[-200:] or b"conversations/" not in told[-200:]:
            told += next(pieces)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM conversations WHERE id = :c"), {"c": first})
        told += b"".join(pieces)
    with zipfile.ZipFile(io.BytesIO(told)) as archive:
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


def test_so_many_an_hour(limited: FlaskClient, user: Account, other_user: Account) -> None:
    assert [limited.get(PATH, headers=user.headers).status_code for _ in range(3)] == [200, 200, 429]
    refused = limited.get(PATH, headers=user.headers)
    assert refused.get_json()["code"] == "rate_limited"
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
    assert limited.get(PATH, headers=other_user.headers).status_code == 200
