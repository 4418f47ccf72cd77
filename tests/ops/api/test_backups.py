"""The list of backups over HTTP."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app.config import Settings
from app.extensions import db
from ops.backup.create import create
from ops.backup.stores.folder import Folder
from ops.backup.verify import verify
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
