"""Drills: the server they use, their reports, and that they drop only their own databases."""

import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import make_url

from app.config import Settings
from ops.backup import drill as drill_module
from ops.backup import scratch
from ops.backup.create import BackupReport, create, read_dump
from ops.backup.drill import DrillReport, drill
from ops.backup.errors import NoSuchBackup, ProgramsMissing, RestoreFailed
from ops.backup.inventory import Inventory
from ops.backup.scheduled import BackupStatus, DailyReport, create_and_prune, drill_or_fail, measure_backups
from ops.backup.scratch import MARK, is_scratch_database, new_scratch_name
from ops.errors import AlreadyRunning
from ops.runs.locks import lock_key
from tests.metrics.scrape import here
from tests.ops.backup import damage
from tests.ops.backup.conftest import BackupInstall, as_role, session
from tests.ops.backup.test_prune import copy_aged
from tests.ops.installation import run_sql
from tests.waiting import wait_until


def test_drill_of_a_good_backup_is_ok(parley: BackupInstall) -> None:
    created: BackupReport = parley.run(create)
    drilled: DrillReport = parley.run(drill)
    assert drilled.ok
    assert (drilled.name, drilled.problems) == (created.name, ())
    assert [(step.step, step.result) for step in drilled.steps] == [
        ("checksums", "ok"),
        ("restore", "ok"),
        ("comparison with the manifest", "ok"),
        ("foreign keys", "ok"),
        ("indexes", "ok"),
    ]
    assert (drilled.tables, drilled.rows) == (created.tables, created.rows)
    assert drilled.alembic == ("0001",)
    assert drilled.rto_seconds == pytest.approx(sum(step.seconds for step in drilled.steps))
    newest = created.newest_message_at
    assert newest is not None
    assert drilled.rpo_seconds == pytest.approx((drilled.began_at - newest).total_seconds())
    assert drilled.snapshot_age_seconds == pytest.approx((drilled.began_at - created.taken_at).total_seconds(), abs=1)
    assert parley.scratches() == []

    inventory = Inventory.load(parley.store)
    report = inventory.last_report(inventory.backups[0])
    assert report is not None
    assert (report.kind, report.ok, report.at) == ("drill", True, drilled.began_at)
    assert report.number("rto_seconds") == drilled.rto_seconds


def test_drill_is_aborted_without_a_report_if_the_server_fails(
    parley: BackupInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No report is stored, and the next drill is ok."""
    parley.run(create)
    real = read_dump
    stop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_restore' AND datname"

    readings = []

    def terminate_restore(*arguments: Any, **options: Any) -> Iterator[bytes]:
        readings.append(options)
        if len(readings) == 1:  # of the list of objects, without the server
            yield from real(*arguments, **options)
            return
        for chunk in real(*arguments, **options):
            yield chunk[:-100]
            statement = f"{stop} = '{parley.scratches()[0]}'"
            wait_until(partial(run_sql, parley.url, statement))
            yield chunk[-100:]

    monkeypatch.setattr(drill_module, "read_dump", terminate_restore)
    code, out, err = parley.command("drill")
    assert (code, out) == (3, "")
    assert "was aborted; the backup was not checked" in err
    assert parley.scratches() == []
    inventory = Inventory.load(parley.store)
    assert inventory.last_report(inventory.backups[0]) is None
    monkeypatch.undo()
    assert parley.run(drill).ok


def test_drill_of_a_real_parley_database_is_ok(
    install: Callable[..., BackupInstall], settings: Settings, make_user: Callable[..., object]
) -> None:
    make_user()
    parley = install(str(settings.database.url))
    code, out, err = parley.command("create")
    assert code == 0, err
    code, out, err = parley.command("drill")
    assert code == 0, err
    assert "comparison with the manifest  ok" in out


def test_drill_drops_only_scratch_databases_of_its_source(parley: BackupInstall, postgres: str) -> None:
    parley.run(create)
    mine, uncommented = new_scratch_name(parley.source), new_scratch_name(parley.source)
    foreign = {
        new_scratch_name("12345678"): MARK,  # of another source, whose drill may be running
        "parley_drill_00000000_00000000": MARK,  # a wrong signature
        "parley_drill_of_my_own": None,
        new_scratch_name(parley.source): "do not touch",  # a changed comment
    }
    every = {mine: f"{MARK}, begun at some time", uncommented: None, **foreign}
    for name, comment in every.items():
        run_sql(postgres, f"CREATE DATABASE {name}")
        if comment is not None:
            run_sql(postgres, f"COMMENT ON DATABASE {name} IS '{comment}'")
    try:
        drilled: DrillReport = parley.run(drill)
        assert drilled.leftovers_dropped == 2
        left = {row[0] for row in run_sql(postgres, "SELECT datname FROM pg_database")}
        assert left & set(every) == set(foreign)
    finally:
        for name in every:
            run_sql(postgres, f"DROP DATABASE IF EXISTS {name}")


def test_scratch_database_is_recognized_by_name_source_and_comment() -> None:
    name = new_scratch_name("12345678")
    assert is_scratch_database(name, None, "12345678")
    assert is_scratch_database(name, f"{MARK}, begun today", "12345678")
    assert not is_scratch_database(name, "mine now", "12345678")
    assert not is_scratch_database(name, None, "87654321")
    assert not is_scratch_database(name[:-1] + ("0" if name[-1] != "0" else "1"), None, "12345678")
    assert not is_scratch_database("parley", None, "12345678")
    assert not is_scratch_database(f"x{name}", None, "12345678")


@pytest.mark.process
def test_next_drill_drops_the_database_of_a_killed_drill(install: Callable[..., BackupInstall], spare_url: str) -> None:
    parley = install(spare_url)
    run_sql(
        spare_url,
        "INSERT INTO messages SELECT n, 1, repeat(md5(n::text), 40), now() FROM generate_series(5000, 20000) n",
    )
    parley.run(create)
    process = parley.start("drill")
    wait_until(lambda: parley.scratches() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [left] = parley.scratches()
    assert is_scratch_database(left, None, parley.source)
    drilled: DrillReport = parley.run(drill)
    assert drilled.leftovers_dropped == 1
    assert parley.scratches() == []


def test_drill_and_prune_are_refused_while_the_store_lock_is_held(parley: BackupInstall) -> None:
    parley.run(create)
    with session(parley.url) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("backup.keep"),))
        with pytest.raises(AlreadyRunning, match="Another drill or pruning is running"):
            parley.run(drill)
        code, _, err = parley.command("drill")
        assert (code, "is running" in err) == (4, True)
        day: DailyReport = parley.run(create_and_prune)  # creates a backup without pruning
        assert f"{day.created.name}.dump" in parley.files
        assert day.prune_skipped == "a drill was running; the next daily backup prunes"


@pytest.fixture
def plain_role(spare_url: str) -> Iterator[str]:
    """URL of the spare_url database for an ordinary role that owns everything in it."""
    database = make_url(spare_url).database
    role = f"plain_{database}"
    run_sql(
        spare_url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-plain-role'",
        f"ALTER DATABASE {database} OWNER TO {role}",
    )
    [(owner,)] = run_sql(spare_url, "SELECT session_user")
    for (statement,) in run_sql(
        spare_url,
        "SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, '" + role + "') FROM pg_class "
        "WHERE relkind IN ('r', 'p', 'v') AND relnamespace::regnamespace::text IN ('public', '\"other Place\"')",
    ):
        run_sql(spare_url, statement)
    run_sql(spare_url, f'ALTER SCHEMA "other Place" OWNER TO {role}', f"GRANT CREATE ON SCHEMA public TO {role}")
    yield as_role(spare_url, role, "of-the-plain-role")
    run_sql(spare_url, f"ALTER DATABASE {database} OWNER TO {owner}", f"REASSIGN OWNED BY {role} TO {owner}")
    run_sql(spare_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_drill_without_createdb_says_what_to_do(install: Callable[..., BackupInstall], plain_role: str) -> None:
    parley = install(plain_role)
    created = parley.run(create)
    expected_message = r"permission denied to create database.*CREATEDB.*DRILL_DATABASE_URL.*`embedded`"
    with pytest.raises(RestoreFailed, match=expected_message):
        parley.run(drill)
    assert Inventory.load(parley.store).newest_good(parley.source, until=created.taken_at) is not None


def test_drill_without_amcheck_does_not_report_indexes_as_ok(
    install: Callable[..., BackupInstall], plain_role: str, spare_url: str
) -> None:
    run_sql(spare_url, f"ALTER ROLE {make_url(plain_role).username} CREATEDB")
    parley = install(plain_role)
    parley.run(create)
    drilled: DrillReport = parley.run(drill)
    assert drilled.ok
    assert drilled.steps[-1].result.startswith("could not be checked: permission denied to create extension")


def test_drill_on_another_server(install: Callable[..., BackupInstall], plain_role: str, spare_url: str) -> None:
    """With DRILL_DATABASE_URL of another role, without the roles of the dump."""
    parley = install(plain_role, drill_url=spare_url)
    parley.run(create)
    drilled: DrillReport = parley.run(drill)
    assert drilled.ok
    assert drilled.steps[-1].result == "ok"
    lost = install(plain_role, drill_url=make_url(spare_url).set(port=1).render_as_string(hide_password=False))
    with pytest.raises(RestoreFailed, match="check the URL, and that the server runs") as raised:
        lost.run(drill)
    assert str(make_url(spare_url).password) not in raised.value.detail


def test_drill_is_refused_without_disk_space(parley: BackupInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    parley.run(create)
    monkeypatch.setattr(scratch, "SPACE_FACTOR", 10.0**9)
    with pytest.raises(RestoreFailed, match=r"too few for a copy of a database of .*set DRILL_DATABASE_URL"):
        parley.run(drill)


@pytest.mark.process
def test_drill_on_an_embedded_server(
    install: Callable[..., BackupInstall], plain_role: str, settings: Settings
) -> None:
    """The server is started for the drill and deleted afterwards."""
    parley = install(plain_role, drill_url="embedded")
    parley.run(create)
    drilled: DrillReport = parley.run(drill)
    assert drilled.ok, drilled.problems
    assert drilled.restored_on.split(":")[1] != str(make_url(plain_role).port)
    assert not (settings.server.home / "drill").exists()


def test_drill_on_an_older_server_is_refused(install: Callable[..., BackupInstall], spare_url: str) -> None:
    parley = install(spare_url)
    parley.run(create)
    damage.reseal(parley.folder, lambda document: document["origin"].update(server_version="99.1"))
    with pytest.raises(RestoreFailed, match="is of PostgreSQL 99, but the server for drills is"):
        parley.run(drill)
    damage.reseal(parley.folder, lambda document: document["origin"].update(server_version="15.1"))
    damage.reseal(parley.folder, lambda document: document["dump"].update(pg_dump="99.1"))
    with pytest.raises(ProgramsMissing, match="cannot read a dump of pg_dump 99"):
        parley.run(drill)
    assert parley.scratches() == []


def test_drill_prefers_past_backups_to_future_ones(parley: BackupInstall) -> None:
    """Else a backup of a wrong clock would be drilled every week instead of the new ones."""
    name = parley.run(create).name
    future = copy_aged(parley, -timedelta(days=900))
    drilled: DrillReport = parley.run(drill)
    assert drilled.name == name
    for path in parley.folder.glob(f"{name}*"):
        path.unlink()
    assert parley.run(drill).name == future, "the only backup is drilled even if dated in the future"


def test_drill_without_a_backup_fails(parley: BackupInstall) -> None:
    with pytest.raises(NoSuchBackup, match="holds no backup of this database; `flask ops backup create` takes one"):
        parley.run(drill)
    parley.run(create)
    with pytest.raises(NoSuchBackup, match="holds no backup called of-yesterday"):
        parley.run(drill, name="of-yesterday")
    assert parley.command("drill", "of-yesterday")[0] == 64


def test_scheduled_jobs_record_the_metrics(parley: BackupInstall) -> None:
    empty: BackupStatus = parley.run(measure_backups)
    assert (empty.backups, empty.newest) == (0, None)
    assert here().value("backup_last_success_timestamp_seconds") == 0
    day: DailyReport = parley.run(create_and_prune)
    assert (day.kept, day.deleted) == (1, 0)
    drilled: DrillReport = parley.run(drill_or_fail)
    seen: BackupStatus = parley.run(measure_backups)
    assert (seen.backups, seen.newest, seen.drill_ok) == (1, day.created.name, True)
    taken = day.created.taken_at
    assert abs(here().value("backup_last_success_timestamp_seconds") - taken.timestamp()) < 1
    assert here().value("backup_last_bytes") == day.created.bytes
    assert here().value("restore_drill_success") == 1
    assert here().value("restore_drill_rto_seconds") == pytest.approx(drilled.rto_seconds)
    assert here().value("restore_drill_rpo_seconds") == pytest.approx(drilled.rpo_seconds)
    assert here().value("restore_drill_timestamp_seconds") == pytest.approx(drilled.began_at.timestamp())
