"""Restoring a backup and switching to it, as in docs/restore.md."""

import hashlib
import json
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import make_url

from app.config import Settings
from ops.backup.create import create
from ops.backup.errors import BackupDamaged, NoSuchBackup, RestoreFailed
from ops.backup.restore import RestoreReport, restore
from ops.backup.switch import switch
from tests.database import fresh_database
from tests.ops.backup import damage
from tests.ops.backup.conftest import BackupInstall, session
from tests.ops.installation import run_sql


@pytest.fixture
def empty(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"empty_{testrun_uid[:8]}_{worker_id}") as url:
        yield url


def tables(url: str) -> int:
    return int(
        run_sql(url, "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")[0][
            0
        ]
    )


def test_restore_into_an_empty_database(parley: BackupInstall, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is taken from the environment."""
    name = parley.run(create).name
    monkeypatch.setenv("PGPASSWORD", str(make_url(empty).password))
    url = make_url(empty)
    shown = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
    code, out, err = parley.command("restore", name, "--to", shown, "--yes", "--json")
    assert code == 0, err
    report = json.loads(out)["report"]
    assert (report["ok"], report["problems"], report["alembic"]) == (True, [], ["0001"])
    assert "flask db upgrade" in report["next_step"]
    assert str(make_url(empty).password) not in out + err
    assert run_sql(empty, "SELECT count(*), max(id) FROM messages") == [(4000, 4000)]
    run_sql(empty, "INSERT INTO \"other Place\".things (kind) VALUES ('c')")  # the sequence was restored too
    assert run_sql(empty, 'SELECT max(id) FROM "other Place".things') == [(3,)]


def test_application_runs_on_a_restored_database(
    install: Callable[..., BackupInstall], settings: Settings, make_user: Callable[..., object], empty: str
) -> None:
    make_user()
    parley = install(str(settings.database.url))
    restored: RestoreReport = parley.run(restore, name=parley.run(create).name, to=empty)
    assert restored.ok, restored.problems
    database = make_url(empty).database
    steps = restored.next_step.split(", ")
    assert [steps[0], steps[1], steps[-1]] == [
        "stop Parley",
        f"then run `flask ops backup switch {database}`",
        "and start Parley",
    ]
    health = install(empty).flask_app.test_client().get("/health")
    assert health.status_code == 200
    assert health.json["status"] == "ok"


def test_restore_into_a_new_database(parley: BackupInstall, spare_url: str, worker_id: str) -> None:
    name, database = parley.run(create).name, f"restored_{make_url(spare_url).database}_{worker_id}"
    code, _, err = parley.command("restore", name, "--into", database, "--yes")
    try:
        assert code == 0, err
        there = make_url(spare_url).set(database=database).render_as_string(hide_password=False)
        assert run_sql(there, "SELECT count(*) FROM messages") == [(4000,)]
        with pytest.raises(RestoreFailed, match=r"already exists\. Nothing was changed"):
            parley.run(restore, name=name, into=database)
        assert run_sql(there, "SELECT count(*) FROM messages") == [(4000,)]
    finally:
        run_sql(spare_url, f"DROP DATABASE IF EXISTS {database}")
    damage.flip_bit(parley.folder)
    with pytest.raises(BackupDamaged):
        parley.run(restore, name=name, into=database)
    assert run_sql(spare_url, f"SELECT datname FROM pg_database WHERE datname = '{database}'") == []
    with pytest.raises(RestoreFailed, match="cannot be the name of a new database"):
        parley.run(restore, name=name, into="x; DROP DATABASE parley")
    assert parley.command("restore", name, "--yes")[0] == 64


def test_switch_replaces_the_current_database(
    install: Callable[..., BackupInstall], spare_url: str, empty: str, postgres: str
) -> None:
    parley = install(spare_url)
    name = parley.run(create).name
    run_sql(spare_url, "TRUNCATE messages")
    parley.run(restore, name=name, to=empty)
    restored = str(make_url(empty).database)
    with session(spare_url) as cursor:
        cursor.execute("SELECT")
        with pytest.raises(RestoreFailed, match=r"is being accessed by other users.* Nothing was changed: stop Parley"):
            parley.run(switch, restored=restored)
    with pytest.raises(RestoreFailed, match="There is no database called nowhere"):
        parley.run(switch, restored="nowhere")
    assert run_sql(spare_url, "SELECT count(*) FROM messages") == [(0,)]
    code, out, err = parley.command("switch", restored, "--yes", "--json")
    assert code == 0, err
    kept = json.loads(out)["report"]["kept"]
    try:
        assert run_sql(spare_url, "SELECT count(*) FROM messages") == [(4000,)]
        assert run_sql(spare_url, "SELECT action, result FROM audit_events ORDER BY id DESC LIMIT 1") == [
            ("backup.switch", "done")
        ]
        back = parley.run(switch, restored=kept)  # the way back, as the report names it
        assert run_sql(spare_url, "SELECT count(*) FROM messages") == [(0,)]
        kept = back.kept
    finally:
        run_sql(postgres, f'ALTER DATABASE "{kept}" RENAME TO "{restored}"')


def test_restore_into_a_filled_database_is_refused(parley: BackupInstall, spare_url: str) -> None:
    name = parley.run(create).name
    run_sql(spare_url, "DELETE FROM messages")
    with pytest.raises(RestoreFailed, match=r"is not empty: it holds 9 tables, such as .*Nothing was changed"):
        parley.run(restore, name=name, to=spare_url)
    assert run_sql(spare_url, "SELECT count(*) FROM messages") == [(0,)]


def test_restore_command_requires_confirmation_and_valid_names(parley: BackupInstall, empty: str) -> None:
    name = parley.run(create).name
    code, _, err = parley.command("restore", name, "--to", empty)
    assert code == 64
    assert "Will:  restore" in err
    assert str(make_url(empty).password) not in err
    assert parley.command("restore", name, "--to", "mysql://a:secret@b/c", "--yes")[0] == 64
    assert parley.command("restore", "of-yesterday", "--to", empty, "--yes")[0] == 64
    with pytest.raises(NoSuchBackup):
        parley.run(restore, name="of-yesterday", to=empty)
    assert tables(empty) == 0


def test_restore_of_a_damaged_backup_changes_nothing(parley: BackupInstall, empty: str) -> None:
    name = parley.run(create).name
    damage.flip_bit(parley.folder)
    with pytest.raises(BackupDamaged, match="its SHA-256 is not the one"):
        parley.run(restore, name=name, to=empty)
    assert tables(empty) == 0


def test_restore_that_fails_halfway_leaves_the_database_empty(parley: BackupInstall, empty: str) -> None:
    """The checksum matches the truncated dump."""
    name = parley.run(create).name
    content = damage.dump_in(parley.folder).read_bytes()
    damage.truncate_dump(parley.folder)
    cut = damage.dump_in(parley.folder).read_bytes()
    assert len(cut) < len(content)
    damage.reseal(
        parley.folder,
        lambda document: document["dump"].update(bytes=len(cut), sha256=hashlib.sha256(cut).hexdigest()),
    )
    with pytest.raises(RestoreFailed, match="pg_restore failed"):
        parley.run(restore, name=name, to=empty)
    assert tables(empty) == 0


def test_restore_into_an_older_server_is_refused(parley: BackupInstall, empty: str) -> None:
    name = parley.run(create).name
    damage.reseal(parley.folder, lambda document: document["origin"].update(server_version="99.1"))
    with pytest.raises(RestoreFailed, match="restore into a server that is not older"):
        parley.run(restore, name=name, to=empty)
