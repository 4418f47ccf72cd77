"""The admin API of backups."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.extensions import db
from app.jobs import Message
from app.storage.folder import FolderStore
from ops.backup.create import create
from ops.backup.errors import BackupError
from ops.backup.verify import verify
from ops.catalogue.declarations import load
from ops.catalogue.jobs import DRILL, JOBS
from tests.contracts.application import as_served
from tests.factories import LoggedInUser

PATH = "/api/admin/backups"


def test_list_shows_every_backup_with_its_state(
    settings: Settings, make_user: Callable[..., LoggedInUser], tmp_path: Path
) -> None:
    folder, operator = tmp_path / "backups", make_user(role="operator")
    served = as_served(replace(settings, backups=settings.backups.model_copy(update={"url": folder.as_uri()})))
    client = served.test_client()
    away = client.get(PATH, headers=operator.headers)
    assert (away.status_code, away.get_json()["code"]) == (503, "unavailable")
    assert "create the folder, or mount its disk" in away.get_json()["detail"]

    folder.mkdir()
    with served.app_context():
        created = create()
        db.engine.dispose()
    [path] = folder.glob("*.dump")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert not verify(store=FolderStore(folder, setting="BACKUP_URL"))[0].ok
    listing = client.get(PATH, headers=operator.headers).get_json()
    assert (listing["store"], listing["reason"]) == (folder.as_uri(), None)
    [listed] = listing["items"]
    assert (listed["name"], listed["rows"], listed["drilled"]) == (created.name, created.rows, None)
    assert "a verify found" in listed["state"]
    assert client.get(PATH, headers=make_user().headers).status_code == 403


def test_list_without_a_store_says_what_to_set(settings: Settings, make_user: Callable[..., LoggedInUser]) -> None:
    response = as_served(settings).test_client().get(PATH, headers=make_user(role="operator").headers)
    assert response.status_code == 200
    assert response.get_json()["items"] == []
    assert "Set BACKUP_URL" in response.get_json()["reason"]


def test_verify_drill_and_prune_are_enqueued_for_a_worker(
    settings: Settings, make_user: Callable[..., LoggedInUser], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = make_user(role="operator")
    served = as_served(replace(settings, backups=settings.backups.model_copy(update={"url": tmp_path.as_uri()})))
    client = served.test_client()
    sent: list[Message] = []
    monkeypatch.setattr(served.extensions["jobs"], "send", sent.append)  # the broker's side is in tests/jobs

    def ask(what: str, **body: Any) -> int:
        return client.post(f"{PATH}/{what}", json=body, headers=operator.headers).status_code

    def done() -> Any:
        message = sent.pop()
        job = next(job for job in JOBS if job.name == message.name)
        return load(job.function)(**message.arguments)

    with served.app_context():
        name = create().name
        assert (ask("verify", name=name), ask("verify", name="no such")) == (202, 404)
        assert [item.name for item in done().backups] == [name]
        assert (ask("verify", name=name, everything=True), ask("verify", everything=1)) == (400, 400)
        assert (ask("prune", dry_run=True), ask("prune", dry_run="no")) == (202, 400)
        pruned = done()
        assert (pruned.dry_run, pruned.kept, pruned.deleted) == (True, 1, 0)
        assert (ask("drill", name="../../etc/passwd"), ask("drill", name=name)) == (404, 202)
        assert (sent[0].name, sent[0].arguments) == (DRILL.name, {"name": name})
        [path] = tmp_path.glob("*.dump")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert ask("verify", everything=True) == 202
        sent.pop(0)
        with pytest.raises(BackupError, match=f"1 of 1 verified backups are damaged. {name}"):
            done()
        db.engine.dispose()
    query = {"target": name}
    acts = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert [act["action"] for act in acts] == ["backup.request_drill", "backup.request_verify"]


@pytest.mark.parametrize("what", ["verify", "drill", "prune"])
def test_requests_without_a_store_are_refused(
    settings: Settings, make_user: Callable[..., LoggedInUser], what: str
) -> None:
    client = as_served(settings).test_client()
    response = client.post(f"{PATH}/{what}", json={}, headers=make_user(role="operator").headers)
    assert response.status_code == 409
    assert "Set BACKUP_URL" in response.get_json()["detail"]


def test_status_says_what_a_loss_would_cost(
    settings: Settings, make_user: Callable[..., LoggedInUser], tmp_path: Path
) -> None:
    operator, user = make_user(role="operator"), make_user()
    served = as_served(replace(settings, backups=settings.backups.model_copy(update={"url": tmp_path.as_uri()})))
    client = served.test_client()
    assert client.get(f"{PATH}/status", headers=user.headers).status_code == 403
    status = client.get(f"{PATH}/status", headers=operator.headers).get_json()
    assert (status["store"], status["newest"], status["wal_archived"]) == (tmp_path.as_uri(), None, False)
    assert "everything would be lost" in status["loss"]
    with served.app_context():
        created = create()
        db.engine.dispose()
    status = client.get(f"{PATH}/status", headers=operator.headers).get_json()
    assert (status["newest"], status["backups"]) == (created.name, 1)
    assert "the changes of the last" in status["loss"]
