"""The drill itself: where it restores, what it leaves and says, and that nobody else's database is ever dropped."""

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
from ops.backup.create import Created, create
from ops.backup.drill import Drilled, drill
from ops.backup.errors import NoSuchBackup, ProgramsMissing, RestoreFailed
from ops.backup.inventory import Inventory
from ops.backup.scheduled import Daily, Observed, daily, observe, weekly_drill
from ops.backup.scratch import MARK, is_ours, scratch_name
from ops.errors import AnotherRunIsUnderWay
from ops.locks import lock_key
from tests.jobs.processes import eventually
from tests.metrics.scrape import here
from tests.ops.backup import broken
from tests.ops.backup.conftest import Installation, as_role, run_sql, session
from tests.ops.backup.test_prune import taken


def test_a_good_backup_is_proven(parley: Installation) -> None:
    created: Created = parley.run(create)
    drilled: Drilled = parley.run(drill)
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

    inventory = Inventory.of(parley.store)
    report = inventory.last_report(inventory.backups[0])
    assert report is not None
    assert (report.kind, report.ok, report.at) == ("drill", True, drilled.began_at)
    assert report.number("rto_seconds") == drilled.rto_seconds


def test_a_server_that_goes_away_is_no_fault_of_the_backup(
    parley: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of such a drill: the backup is as good as before, and the next drill proves it."""
    parley.run(create)
    real = drill_module.checked
    stop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_restore' AND datname"

    def cut_off(*arguments: Any, **options: Any) -> Iterator[bytes]:
        for piece in real(*arguments, **options):
            yield piece[:-100]
            stopping = f"{stop} = '{parley.scratches()[0]}'"
            eventually(partial(run_sql, parley.url, stopping))
            yield piece[-100:]

    monkeypatch.setattr(drill_module, "checked", cut_off)
    code, out, err = parley.command("drill")
    assert (code, out) == (3, "")
    assert "says nothing of it" in err
    assert parley.scratches() == []
    inventory = Inventory.of(parley.store)
    assert inventory.last_report(inventory.backups[0]) is None
    monkeypatch.undo()
    assert parley.run(drill).ok


def test_a_real_database_of_parley_is_proven(
    install: Callable[..., Installation], settings: Settings, make_user: Callable[..., object]
) -> None:
    make_user()
    parley = install(str(settings.database.url))
    code, out, err = parley.command("create")
    assert code == 0, err
    code, out, err = parley.command("drill")
    assert code == 0, err
    assert "comparison with the manifest  ok" in out


def test_what_killed_drills_left_goes_and_nothing_else(parley: Installation, postgres: str) -> None:
    parley.run(create)
    mine, uncommented = scratch_name(parley.source), scratch_name(parley.source)
    foreign = {
        scratch_name("12345678"): MARK,  # of another database's drill, which may be under way
        "parley_drill_00000000_00000000": MARK,  # made by hand
        "parley_drill_of_my_own": None,
        scratch_name(parley.source): "do not touch",  # taken over by somebody
    }
    every = {mine: f"{MARK}, begun at some time", uncommented: None, **foreign}
    for name, comment in every.items():
        run_sql(postgres, f"CREATE DATABASE {name}")
        if comment is not None:
            run_sql(postgres, f"COMMENT ON DATABASE {name} IS '{comment}'")
    try:
        drilled: Drilled = parley.run(drill)
        assert drilled.leftovers_dropped == 2
        left = {row[0] for row in run_sql(postgres, "SELECT datname FROM pg_database")}
        assert left & set(every) == set(foreign)
    finally:
        for name in every:
            run_sql(postgres, f"DROP DATABASE IF EXISTS {name}")


def test_only_a_drill_of_the_same_database_makes_such_a_name() -> None:
    name = scratch_name("12345678")
    assert is_ours(name, None, "12345678")
    assert is_ours(name, f"{MARK}, begun today", "12345678")
    assert not is_ours(name, "mine now", "12345678")
    assert not is_ours(name, None, "87654321")
    assert not is_ours(name[:-1] + ("0" if name[-1] != "0" else "1"), None, "12345678")
    assert not is_ours("parley", None, "12345678")
    assert not is_ours(f"x{name}", None, "12345678")


@pytest.mark.process
def test_a_killed_drill_is_cleared_by_the_next(install: Callable[..., Installation], spare: str) -> None:
    parley = install(spare)
    run_sql(
        spare, "INSERT INTO messages SELECT n, 1, repeat(md5(n::text), 40), now() FROM generate_series(5000, 20000) n"
    )
    parley.run(create)
    process = parley.start("drill")
    eventually(lambda: parley.scratches() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [left] = parley.scratches()
    assert is_ours(left, None, parley.source)
    drilled: Drilled = parley.run(drill)
    assert drilled.leftovers_dropped == 1
    assert parley.scratches() == []


def test_one_drill_or_pruning_at_a_time(parley: Installation) -> None:
    parley.run(create)
    with session(parley.url) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("backup.keep"),))
        with pytest.raises(AnotherRunIsUnderWay, match="Another drill or pruning is under way elsewhere"):
            parley.run(drill)
        code, _, err = parley.command("drill")
        assert (code, "under way" in err) == (4, True)
        day: Daily = parley.run(daily)  # the clock's backup is taken all the same, and says that it did not prune
        assert f"{day.created.name}.dump" in parley.files
        assert day.not_pruned == "a drill was under way; the next backup prunes"


@pytest.fixture
def plain_role(spare: str) -> Iterator[str]:
    """URL of the spare database as an ordinary account, to whom everything in it belongs."""
    database = make_url(spare).database
    role = f"plain_{database}"
    run_sql(
        spare, f"CREATE ROLE {role} LOGIN PASSWORD 'of-the-plain-role'", f"ALTER DATABASE {database} OWNER TO {role}"
    )
    [(owner,)] = run_sql(spare, "SELECT session_user")
    for (statement,) in run_sql(
        spare,
        "SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, '" + role + "') FROM pg_class "
        "WHERE relkind IN ('r', 'p', 'v') AND relnamespace::regnamespace::text IN ('public', '\"other Place\"')",
    ):
        run_sql(spare, statement)
    run_sql(spare, f'ALTER SCHEMA "other Place" OWNER TO {role}', f"GRANT CREATE ON SCHEMA public TO {role}")
    yield as_role(spare, role, "of-the-plain-role")
    run_sql(spare, f"ALTER DATABASE {database} OWNER TO {owner}", f"REASSIGN OWNED BY {role} TO {owner}")
    run_sql(spare, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_an_account_that_may_make_no_database_is_told_what_to_do(
    install: Callable[..., Installation], plain_role: str
) -> None:
    parley = install(plain_role)
    created = parley.run(create)
    said = r"permission denied to create database.*CREATEDB.*DRILL_DATABASE_URL.*`embedded`"
    with pytest.raises(RestoreFailed, match=said):
        parley.run(drill)
    assert Inventory.of(parley.store).newest_good(parley.source, until=created.taken_at) is not None


def test_what_amcheck_may_not_look_at_is_not_called_ok(
    install: Callable[..., Installation], plain_role: str, spare: str
) -> None:
    run_sql(spare, f"ALTER ROLE {make_url(plain_role).username} CREATEDB")
    parley = install(plain_role)
    parley.run(create)
    drilled: Drilled = parley.run(drill)
    assert drilled.ok
    assert drilled.steps[-1].result.startswith("could not be judged: permission denied to create extension")


def test_a_drill_elsewhere(install: Callable[..., Installation], plain_role: str, spare: str) -> None:
    """DRILL_DATABASE_URL: as another account, to which the roles of the dump mean nothing."""
    parley = install(plain_role, drill_url=spare)
    parley.run(create)
    drilled: Drilled = parley.run(drill)
    assert drilled.ok
    assert drilled.steps[-1].result == "ok"
    lost = install(plain_role, drill_url=make_url(spare).set(port=1).render_as_string(hide_password=False))
    with pytest.raises(RestoreFailed, match="is the URL right, and the server up") as raised:
        lost.run(drill)
    assert str(make_url(spare).password) not in raised.value.detail


def test_a_disk_that_it_would_fill_is_left_alone(parley: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    parley.run(create)
    monkeypatch.setattr(scratch, "ROOM", 10.0**9)
    with pytest.raises(RestoreFailed, match=r"too few for a scratch database beside one of .*set DRILL_DATABASE_URL"):
        parley.run(drill)


@pytest.mark.process
def test_a_drill_on_a_server_of_its_own(
    install: Callable[..., Installation], plain_role: str, settings: Settings
) -> None:
    """Started for it, and gone afterwards."""
    parley = install(plain_role, drill_url="embedded")
    parley.run(create)
    drilled: Drilled = parley.run(drill)
    assert drilled.ok, drilled.problems
    assert drilled.restored_on.split(":")[1] != str(make_url(plain_role).port)
    assert not (settings.server.home / "drill").exists()


def test_an_older_server_is_no_place_for_a_drill(install: Callable[..., Installation], spare: str) -> None:
    parley = install(spare)
    parley.run(create)
    broken.reseal(parley.folder, lambda document: document["origin"].update(server_version="99.1"))
    with pytest.raises(RestoreFailed, match="is of PostgreSQL 99, and the server for drills is"):
        parley.run(drill)
    broken.reseal(parley.folder, lambda document: document["origin"].update(server_version="15.1"))
    broken.reseal(parley.folder, lambda document: document["dump"].update(pg_dump="99.1"))
    with pytest.raises(ProgramsMissing, match="cannot read what pg_dump 99 wrote"):
        parley.run(drill)
    assert parley.scratches() == []


def test_one_from_the_future_is_not_the_newest(parley: Installation) -> None:
    """A clock was wrong once; that backup is not to be proven week after week instead of the new ones."""
    name = parley.run(create).name
    future = taken(parley, -timedelta(days=900))
    drilled: Drilled = parley.run(drill)
    assert drilled.name == name
    for path in parley.folder.glob(f"{name}*"):
        path.unlink()
    assert parley.run(drill).name == future, "but it is better than none"


def test_without_a_backup_there_is_nothing_to_drill(parley: Installation) -> None:
    with pytest.raises(NoSuchBackup, match="holds no backup of this database; `flask ops backup create` takes one"):
        parley.run(drill)
    parley.run(create)
    with pytest.raises(NoSuchBackup, match="holds no backup called of-yesterday"):
        parley.run(drill, name="of-yesterday")
    assert parley.command("drill", "of-yesterday")[0] == 64


def test_the_clock_takes_backups_proves_them_and_shows_it(parley: Installation) -> None:
    empty: Observed = parley.run(observe)
    assert (empty.backups, empty.newest) == (0, None)
    assert here().value("backup_last_success_timestamp_seconds") == 0
    day: Daily = parley.run(daily)
    assert (day.kept, day.removed) == (1, 0)
    drilled: Drilled = parley.run(weekly_drill)
    seen: Observed = parley.run(observe)
    assert (seen.backups, seen.newest, seen.drill_ok) == (1, day.created.name, True)
    taken = day.created.taken_at
    assert abs(here().value("backup_last_success_timestamp_seconds") - taken.timestamp()) < 1
    assert here().value("backup_last_bytes") == day.created.bytes
    assert here().value("restore_drill_success") == 1
    assert here().value("restore_drill_rto_seconds") == pytest.approx(drilled.rto_seconds)
    assert here().value("restore_drill_rpo_seconds") == pytest.approx(drilled.rpo_seconds)
    assert here().value("restore_drill_timestamp_seconds") == pytest.approx(drilled.began_at.timestamp())
