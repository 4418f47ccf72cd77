"""Restoring for real, as docs/restore.md has it."""

import hashlib
import json
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import make_url

from app.config import Settings
from ops.backup.create import create
from ops.backup.errors import Damaged, NoSuchBackup, RestoreFailed
from ops.backup.restore import Restored, restore
from ops.backup.switch import switch
from tests.database import fresh_database
from tests.ops.backup import broken
from tests.ops.backup.conftest import Installation, run_sql, session


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


def test_into_an_empty_database(parley: Installation, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the password in the environment, where it belongs."""
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
    run_sql(empty, "INSERT INTO \"other Place\".things (kind) VALUES ('c')")  # the sequence goes on
    assert run_sql(empty, 'SELECT max(id) FROM "other Place".things') == [(3,)]


def test_the_application_runs_on_what_was_restored(
    install: Callable[..., Installation], settings: Settings, make_user: Callable[..., object], empty: str
) -> None:
    make_user()
    parley = install(str(settings.database.url))
    restored: Restored = parley.run(restore, name=parley.run(create).name, to=empty)
    assert restored.ok, restored.problems
    assert restored.next_step == "set DATABASE_URL to it and start Parley"
    health = install(empty).flask_app.test_client().get("/health")
    assert health.status_code == 200
    assert health.json["status"] == "ok"


def test_into_a_new_database_of_the_same_server(parley: Installation, spare: str, worker_id: str) -> None:
    name, database = parley.run(create).name, f"restored_{make_url(spare).database}_{worker_id}"
    code, _, err = parley.command("restore", name, "--into", database, "--yes")
    try:
        assert code == 0, err
        there = make_url(spare).set(database=database).render_as_string(hide_password=False)
        assert run_sql(there, "SELECT count(*) FROM messages") == [(4000,)]
        with pytest.raises(RestoreFailed, match=r"already exists\. Nothing was changed"):
            parley.run(restore, name=name, into=database)
        assert run_sql(there, "SELECT count(*) FROM messages") == [(4000,)]
    finally:
        run_sql(spare, f"DROP DATABASE IF EXISTS {database}")
    broken.flip_a_bit(parley.folder)
    with pytest.raises(Damaged):
        parley.run(restore, name=name, into=database)
    assert run_sql(spare, f"SELECT datname FROM pg_database WHERE datname = '{database}'") == []
    with pytest.raises(RestoreFailed, match="is no name for a new database"):
        parley.run(restore, name=name, into="x; DROP DATABASE parley")
    assert parley.command("restore", name, "--yes")[0] == 64


def test_a_restored_one_takes_the_place_of_the_present_one(
    install: Callable[..., Installation], spare: str, empty: str, postgres: str
) -> None:
    parley = install(spare)
    name = parley.run(create).name
    run_sql(spare, "TRUNCATE messages")
    parley.run(restore, name=name, to=empty)
    restored = str(make_url(empty).database)
    with session(spare) as cursor:
        cursor.execute("SELECT")
        with pytest.raises(RestoreFailed, match=r"is being accessed by other users.* Nothing was changed: stop Parley"):
            parley.run(switch, restored=restored)
    with pytest.raises(RestoreFailed, match="There is no database called nowhere"):
        parley.run(switch, restored="nowhere")
    assert run_sql(spare, "SELECT count(*) FROM messages") == [(0,)]
    code, out, err = parley.command("switch", restored, "--yes", "--json")
    assert code == 0, err
    kept = json.loads(out)["report"]["kept"]
    try:
        assert run_sql(spare, "SELECT count(*) FROM messages") == [(4000,)]
        assert run_sql(spare, "SELECT action, result FROM audit_events ORDER BY id DESC LIMIT 1") == [
            ("backup.switch", "done")
        ]
    finally:
        run_sql(postgres, f'ALTER DATABASE "{kept}" RENAME TO "{restored}"')


def test_never_into_one_that_holds_something(parley: Installation, spare: str) -> None:
    name = parley.run(create).name
    run_sql(spare, "DELETE FROM messages")
    with pytest.raises(RestoreFailed, match=r"is not empty: it holds 9 tables, such as .*Nothing was changed"):
        parley.run(restore, name=name, to=spare)
    assert run_sql(spare, "SELECT count(*) FROM messages") == [(0,)]


def test_it_asks_first_and_knows_its_names(parley: Installation, empty: str) -> None:
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


def test_a_damaged_one_changes_nothing(parley: Installation, empty: str) -> None:
    name = parley.run(create).name
    broken.flip_a_bit(parley.folder)
    with pytest.raises(Damaged, match="its SHA-256 is not the one"):
        parley.run(restore, name=name, to=empty)
    assert tables(empty) == 0


def test_one_that_fails_halfway_leaves_the_database_empty(parley: Installation, empty: str) -> None:
    """The checksum fits, because somebody who cut it off also wrote the manifest."""
    name = parley.run(create).name
    content = broken.dump_in(parley.folder).read_bytes()
    broken.cut_off(parley.folder)
    cut = broken.dump_in(parley.folder).read_bytes()
    assert len(cut) < len(content)
    broken.reseal(
        parley.folder,
        lambda document: document["dump"].update(bytes=len(cut), sha256=hashlib.sha256(cut).hexdigest()),
    )
    with pytest.raises(RestoreFailed, match="pg_restore failed"):
        parley.run(restore, name=name, to=empty)
    assert tables(empty) == 0


def test_an_older_server_is_refused(parley: Installation, empty: str) -> None:
    name = parley.run(create).name
    broken.reseal(parley.folder, lambda document: document["origin"].update(server_version="99.1"))
    with pytest.raises(RestoreFailed, match="must not be older"):
        parley.run(restore, name=name, to=empty)
