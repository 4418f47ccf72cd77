"""Restores that were cut off, and databases that a switch refuses."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import make_url

from ops.backup.create import create
from ops.backup.errors import RestoreFailed
from ops.backup.restore import restore
from ops.backup.switch import discard, switch
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.levels import Level
from tests.database import fresh_database
from tests.ops.backup import damage
from tests.ops.backup.conftest import SECONDS, BackupInstall
from tests.ops.installation import run_sql
from tests.waiting import wait_until


@pytest.fixture
def parley(install: Callable[..., BackupInstall], spare_url: str) -> BackupInstall:
    return install(spare_url)


@pytest.fixture
def empty(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"target_{testrun_uid[:8]}_{worker_id}") as url:
        yield url


def name_of(url: str) -> str:
    return str(make_url(url).database)


def findings(parley: BackupInstall) -> list[tuple[str, str]]:
    """Return message and remedy of the findings about this test's databases."""
    with parley.flask_app.app_context():
        [result] = run_doctor(checks=select_checks(["backup.restores"])).results
    assert result.level in (Level.OK, Level.WARNING)
    return [(finding.message, str(finding.remedy)) for finding in result.findings]


def kill_during_restore(parley: BackupInstall, url: str, *arguments: str) -> None:
    """Start a restore, and kill it while pg_restore has a session in the database."""
    lock = damage.dump_in(parley.folder)
    assert lock.exists()
    process = parley.start("restore", lock.name, *arguments, "--yes")
    try:
        sessions = (
            f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name_of(url)}' AND application_name = 'pg_restore'"
        )
        wait_until(lambda: process.poll() is not None or run_sql(parley.url, sessions))
        process.send_signal(signal.SIGKILL)
        process.wait(SECONDS)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    gone = f"SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '{name_of(url)}'"
    wait_until(lambda: run_sql(parley.url, gone) == [(True,)])


@pytest.mark.process
def test_killed_restore_is_refused_by_switch_and_found_by_the_doctor(
    parley: BackupInstall, spare_url: str, worker_id: str
) -> None:
    run_sql(
        spare_url,
        "INSERT INTO messages SELECT n, 1, repeat(md5(n::text), 50), now() FROM generate_series(5000, 60000) n",
    )
    name = parley.run(create).name
    there = make_url(spare_url).set(database=f"cut_off_{name_of(spare_url)}_{worker_id}")
    url, database = there.render_as_string(hide_password=False), str(there.database)
    try:
        kill_during_restore(parley, url, "--into", database)
        with pytest.raises(RestoreFailed, match=rf"The restore of {name} into {database}, .* is not complete"):
            parley.run(switch, restored=database)
        assert run_sql(spare_url, "SELECT count(*) FROM users") == [(50,)]
        command = f"flask ops backup discard {database}"
        assert (f"The restore of {name} into {database} was not completed.", command) in findings(parley)
        code, _, err = parley.command("discard", database, "--yes")
        assert code == 0, err
        assert run_sql(spare_url, f"SELECT FROM pg_database WHERE datname = '{database}'") == []
        assert command not in [remedy for _, remedy in findings(parley)]
    finally:
        run_sql(spare_url, f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def test_running_restore_is_not_reported(parley: BackupInstall, empty: str) -> None:
    """An open connection of the restore distinguishes it from one that was cut off."""
    mark = "Parley restore of x, begun at 2026-11-22 10:00:00Z"
    run_sql(empty, f"COMMENT ON DATABASE {name_of(empty)} IS '{mark}'")
    command = f"flask ops backup discard {name_of(empty)}"
    assert command in [remedy for _, remedy in findings(parley)]
    script = (
        "import psycopg2, sys; c = psycopg2.connect(sys.argv[1], application_name='parley-backup'); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, empty.replace("+psycopg2", "")], stdin=subprocess.PIPE, cwd="/"
    )
    try:
        wait_until(lambda: command not in [remedy for _, remedy in findings(parley)])
        with pytest.raises(RestoreFailed, match="or its restore is running"):
            parley.run(discard, database=name_of(empty))
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ((), "was not restored by `flask ops backup restore`"),
        (("COMMENT ON DATABASE {name} IS 'orders of the shop'",), "was not restored by"),
        (("{complete}",), "is not a database of Parley: it has no table alembic_version"),
        (("{complete}", "CREATE TABLE alembic_version (version_num text)"), "it has no table users"),
        (("{complete}", "{tables}"), "has 0 revisions instead of one"),
        (
            ("{complete}", "{tables}", "INSERT INTO alembic_version VALUES ('9999')"),
            "is at revision 9999, this version",
        ),
        (("{begun}", "{tables}", "INSERT INTO alembic_version VALUES ('0001')"), "is not complete"),
    ],
)
def test_switch_refuses_what_is_not_a_complete_restore(
    parley: BackupInstall, empty: str, prepare: tuple[str, ...], message: str
) -> None:
    texts = {
        "name": name_of(empty),
        "complete": f"COMMENT ON DATABASE {name_of(empty)} IS 'Parley restore of x, complete at 2026-11-22 10:00:00Z'",
        "begun": f"COMMENT ON DATABASE {name_of(empty)} IS 'Parley restore of x, begun at 2026-11-22 10:00:00Z'",
        "tables": "CREATE TABLE alembic_version (version_num text); CREATE TABLE users (); CREATE TABLE messages ()",
    }
    if prepare:
        run_sql(empty, *(statement.format(**texts) for statement in prepare))
    with pytest.raises(RestoreFailed, match=message) as refused:
        parley.run(switch, restored=name_of(empty))
    assert "Nothing was changed" in refused.value.detail
    assert run_sql(parley.url, "SELECT count(*) FROM messages") == [(4000,)]
    with pytest.raises(RestoreFailed, match="is the current database already"):
        parley.run(switch, restored=name_of(parley.url))


def test_restore_with_differences_is_not_complete(parley: BackupInstall, empty: str) -> None:
    name = parley.run(create).name
    damage.reseal(parley.folder, lambda document: document["contents"]["tables"]["public.twins"].update(rows=5))
    restored = parley.run(restore, name=name, to=empty)
    assert restored.problems == ("public.twins has 4 rows instead of 5",)
    assert restored.next_step == f"do not use {name_of(empty)}; drop it, and restore another backup"
    with pytest.raises(RestoreFailed, match="is not complete"):
        parley.run(switch, restored=name_of(empty))


def test_comment_of_the_database_is_kept(parley: BackupInstall, empty: str) -> None:
    run_sql(empty, f"COMMENT ON DATABASE {name_of(empty)} IS 'for the \"100%\" test of O''Neil'")
    name = parley.run(create).name
    assert parley.run(restore, name=name, to=empty).ok
    [(comment,)] = run_sql(
        empty, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    )
    assert comment.startswith(f"Parley restore of {name}, complete at ")
    assert comment.endswith('for the "100%" test of O\'Neil')


@pytest.mark.parametrize("database", ["postgres", "template1", "no_such", 'x"; DROP DATABASE y; --'])
def test_discard_refuses_other_databases(parley: BackupInstall, database: str) -> None:
    for name in (database, name_of(parley.url)):
        code, out, err = parley.command("discard", name, "--yes", "--json")
        assert code != 0
        assert "No unfinished restore left a database called" in out + err
    assert run_sql(parley.url, "SELECT count(*) FROM messages") == [(4000,)]


def test_switch_command_reports_the_refusal(parley: BackupInstall, empty: str) -> None:
    code, out, err = parley.command("switch", name_of(empty), "--yes", "--json")
    assert code != 0
    assert "was not restored by" in err
    assert not out or not json.loads(out).get("report")
