"""The list of backups over HTTP."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.extensions import db
from app.jobs import Message
from ops.backup.create import create
from ops.backup.errors import BackupError
from ops.backup.stores.folder import Folder
from ops.backup.verify import verify
from ops.catalogue import DRILL, JOBS
from ops.declarations import load
from tests.contracts.application import as_served
from tests.factories import Account

PATH = "/api/admin/backups"


def test_operators_see_every_backup_and_what_is_known_of_it(
    settings: Settings, make_user: Callable[..., Account], tmp_path: Path
) -> None:
    folder, operator = tmp_path / "backups", make_user(role="operator")
    served = as_served(replace(settings, backups=settings.backups.model_copy(update={"url": folder.as_uri()})))
    client = served.test_client()
    away = client.get(PATH, headers=operator.headers)
    assert (away.status_code, away.get_json()["code"]) == (503, "unavailable")
    assert "make the folder, or mount the disk it is on" in away.get_json()["detail"]

    folder.mkdir()
    with served.app_context():
        created = create()
        db.engine.dispose()
    [path] = folder.glob("*.dump")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert not verify(store=Folder(folder))[0].ok
    told = client.get(PATH, headers=operator.headers).get_json()
    assert (told["place"], told["reason"]) == (folder.as_uri(), None)
    [listed] = told["items"]
    assert (listed["name"], listed["rows"], listed["drilled"]) == (created.name, created.rows, None)
    assert "a verify found" in listed["state"]
    assert client.get(PATH, headers=make_user().headers).status_code == 403


def test_where_nobody_set_a_place_it_says_so(settings: Settings, make_user: Callable[..., Account]) -> None:
    answer = as_served(settings).test_client().get(PATH, headers=make_user(role="operator").headers)
    assert answer.status_code == 200
    assert answer.get_json()["items"] == []
    assert "set BACKUP_URL" in answer.get_json()["reason"]


def test_backups_are_read_drilled_and_pruned_by_a_worker(
    settings: Settings, make_user: Callable[..., Account], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        return load(job.where)(**message.arguments)

    with served.app_context():
        name = create().name
        assert (ask("verify", name=name), ask("verify", name="no such")) == (202, 404)
        assert [each.name for each in done().backups] == [name]
        assert (ask("verify", name=name, everything=True), ask("verify", everything=1)) == (400, 400)
        assert (ask("prune", dry_run=True), ask("prune", dry_run="no")) == (202, 400)
        pruned = done()
        assert (pruned.dry_run, pruned.kept, pruned.removed) == (True, 1, 0)
        assert (ask("drill", name="../../etc/passwd"), ask("drill", name=name)) == (404, 202)
        assert (sent[0].name, sent[0].arguments) == (DRILL.name, {"name": name})
        [path] = tmp_path.glob("*.dump")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert ask("verify", everything=True) == 202
        sent.pop(0)
        with pytest.raises(BackupError, match=f"1 of 1 backups not as they were taken. {name}"):
            done()
        db.engine.dispose()
    query = {"target": name}
    acts = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert [act["action"] for act in acts] == ["backup.ask_drill", "backup.ask_verify"]


@pytest.mark.parametrize("what", ["verify", "drill", "prune"])
def test_without_a_place_nothing_is_asked_for(settings: Settings, make_user: Callable[..., Account], what: str) -> None:
    client = as_served(settings).test_client()
    answer = client.post(f"{PATH}/{what}", json={}, headers=make_user(role="operator").headers)
    assert answer.status_code == 409
    assert "set BACKUP_URL" in answer.get_json()["detail"]
