"""Legal holds and erasures know files."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.errors import UserHeld
from app.storage.errors import StorageUnavailable
from ops.archive.holds import hold_user, lift_hold
from ops.maintenance.files import purge_files
from ops.runs.actors import Actor
from ops.users.erasure import erase
from ops.users.receipts import list_receipts
from tests.factories import LoggedInUser, make_conversation
from tests.files.test_purge import Put, names, put

__all__ = ["put"]  # a fixture
BY = Actor(kind="cli", name="tester")
Held = Callable[[], UUID]


@pytest.fixture
def hold(flask_app: Flask, engine: Engine, user: LoggedInUser) -> Held:
    """Return a function that holds the user's conversations and returns the hold."""
    make_conversation(engine, user)

    def place() -> UUID:
        with flask_app.app_context():
            [hold_id] = hold_user(user_id=user.id, reason="court order 17", by="tester").holds
            return hold_id

    return place


def test_held_user_cannot_delete_files(
    client: FlaskClient, flask_app: Flask, user: LoggedInUser, other_user: LoggedInUser, put: Put, hold: Held
) -> None:
    url = f"/api/files/{put(b'evidence')['id']}"
    hold_id = hold()
    answer = client.delete(url, headers=user.headers)
    assert (answer.status_code, answer.json["code"]) == (409, "account_held")
    assert client.delete(url, headers=other_user.headers).status_code == 404
    assert client.get(f"{url}/content", headers=user.headers).data == b"evidence"
    with flask_app.app_context():
        lift_hold(hold_id=hold_id)
    assert client.delete(url, headers=user.headers).status_code == 204


def test_held_user_cannot_delete_a_project_with_files(
    client: FlaskClient, user: LoggedInUser, put: Put, hold: Held
) -> None:
    full, empty = (
        client.post("/api/projects", json={"name": name}, headers=user.headers).json["id"] for name in ("A", "B")
    )
    put(b"evidence", project=full)
    hold()
    answer = client.delete(f"/api/projects/{full}", headers=user.headers)
    assert (answer.status_code, answer.json["code"]) == (409, "account_held")
    assert client.delete(f"/api/projects/{empty}", headers=user.headers).status_code == 204
    assert client.delete(f"/api/projects/{empty}", headers=user.headers).status_code == 404


def test_held_user_is_not_erased_and_keeps_the_objects(
    flask_app: Flask, user: LoggedInUser, put: Put, hold: Held, store: Path
) -> None:
    put(b"evidence")
    hold()
    with flask_app.app_context():
        with pytest.raises(UserHeld):
            erase(user_id=user.id, by=BY, reason="a request of the user")
        purge_files()
    assert len(names(store)) == 1


def test_receipt_counts_files_and_their_objects_are_deleted(
    flask_app: Flask, user: LoggedInUser, put: Put, store: Path, engine: Engine
) -> None:
    put(b"one", "a.txt")
    put(b"one", "b.txt")
    put(b"two", "c.txt")
    with flask_app.app_context():
        receipt = erase(user_id=user.id, by=BY, reason="a request of the user")
    assert (receipt.rows["files"], receipt.rows["file_contents"]) == (3, 2)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM file_removals")).scalar_one() == 2
    with flask_app.app_context():
        assert purge_files().objects == 2
    assert names(store) == set()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM file_removals")).scalar_one() == 0


def test_receipt_says_when_the_objects_are_deleted(
    flask_app: Flask, user: LoggedInUser, put: Put, store: Path, client: FlaskClient
) -> None:
    put(b"one")
    put(b"two")
    with flask_app.app_context():
        receipt = erase(user_id=user.id, by=BY, reason="a request of the user")

    def deleted_at() -> str | None:
        answer = client.get(f"/api/auth/deletions/{receipt.id}").json
        assert answer["status"] == "erased"
        return answer["files_deleted_at"]

    blocked = next(iter(names(store)))
    (store / blocked).unlink()
    (store / blocked).mkdir()  # cannot be deleted as a file
    with flask_app.app_context(), pytest.raises(StorageUnavailable):
        purge_files()
    assert deleted_at() is None
    (store / blocked).rmdir()
    with flask_app.app_context():
        purge_files(dry_run=True)
        assert deleted_at() is None
        purge_files()
        [listed] = [each for each in list_receipts() if each.id == receipt.id]
        purge_files()
    assert listed.objects_deleted_at is not None
    stated = deleted_at()
    assert stated is not None
    assert datetime.fromisoformat(stated) == listed.objects_deleted_at  # a later run keeps it
    assert listed.objects_deleted_at >= receipt.erased_at
    assert names(store) == set()
