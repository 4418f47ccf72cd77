"""`flask ops index`: output, confirmation, exit codes, and interruption."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from click.testing import Result
from flask import Flask

from ops.cli.entry_points import ops
from ops.cli.index_repair import Bytes
from ops.indexes.planning import make_plan
from tests.ops.conftest import PROJECT, SECONDS, own_environment
from tests.ops.indexes.conftest import IndexDatabase, open_transaction
from tests.waiting import wait_until

OURS = "ix_turns_conversation"
TWICE = "CREATE INDEX twice ON turns (user_id, conversation_id)"
WRITER = "LOCK TABLE turns IN ROW EXCLUSIVE MODE"
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"

Run = Callable[..., Result]


@pytest.fixture
def run(index_app: Flask) -> Run:
    """Return a function that runs `flask ops index` on the test's database."""
    return lambda *arguments, **options: index_app.test_cli_runner().invoke(
        ops, ["index", *map(str, arguments)], **options
    )


def report(result: Result, command: str) -> Any:
    document = orjson.loads(result.stdout)
    assert (document["schema"], document["command"]) == ("parley.ops/2", command)
    return document["report"]


def test_check_shows_finding_and_remedy(database: IndexDatabase, run: Run) -> None:
    database.run("INSERT INTO job_runs (id, job, status) VALUES (gen_random_uuid(), 'x', 'running')")
    assert run("check").exit_code == 0
    database.run(TWICE)
    shown = run("check", "--only", "indexes.duplicate")
    assert shown.exit_code == 1
    assert "public.twice is the same as public.ix_turns_conversation" in shown.stdout
    assert "DROP INDEX CONCURRENTLY public.twice;" in shown.stdout
    assert "see docs/runbooks/indexes-duplicate.md" in shown.stdout
    results = report(run("check", "--json"), "index check")["results"]
    assert {answer["check"] for answer in results} >= {"indexes.corruption", "indexes.bloat", "tables.wraparound"}
    database.run("DROP INDEX twice", f"DROP INDEX {OURS}")
    assert run("check", "--only", "indexes.expected").exit_code == 2
    database.run("DROP EXTENSION amcheck")
    assert run("check", "--only", "indexes.corruption").exit_code == 3
    assert run("check", "--only", "indexes.made_up").exit_code == 64


def test_plan_file_is_applied(database: IndexDatabase, run: Run, tmp_path: Path) -> None:
    database.run(TWICE)
    path = tmp_path / "plan.json"
    planned = run("plan", "--out", path)
    assert planned.exit_code == 0
    for words in (
        "DROP INDEX CONCURRENTLY public.twice;",
        "undo: CREATE INDEX",
        "SHARE UPDATE EXCLUSIVE",
        "about 0 min",
    ):
        assert words in planned.stdout
    assert run("plan", "--out", path).exit_code == 64
    assert run("apply", "--plan", path, "--now").exit_code == 64  # no terminal for the confirmation
    assert database.value("SELECT to_regclass('twice')") is not None
    tried = run("apply", "--plan", path, "--now", "--dry-run", "--json")
    assert [step["outcome"] for step in report(tried, "index apply")["steps"]] == ["would be done"]
    applied = run("apply", "--plan", path, "--now", "--yes", "--json")
    assert applied.exit_code == 0
    (step,) = report(applied, "index apply")["steps"]
    assert (step["outcome"], step["before"]["valid"], step["after"]) == ("done", True, {})
    assert "Undo:" in applied.stderr
    ((actor, result, details),) = database.run("SELECT actor_kind, result, details FROM audit_events")
    assert (actor, result, details["steps"][0]["outcome"]) == ("command", "done", "done")
    assert "not needed any more" in run("apply", "--plan", path, "--now", "--yes").stdout


def test_empty_plan_writes_no_file(run: Run, tmp_path: Path) -> None:
    planned = run("plan", "--out", tmp_path / "plan.json")
    assert (planned.exit_code, list(tmp_path.iterdir())) == (0, [])
    assert "No repairs are needed; no file was written." in planned.stdout


def test_plan_without_a_file_is_printed(database: IndexDatabase, run: Run) -> None:
    database.run(TWICE)
    planned = report(run("plan", "--out", "-", "--json"), "index plan")
    assert (planned["file"], len(planned["plan"]["steps"])) == (None, 1)


@pytest.mark.parametrize("size", ["20 buckets", "-1", "1e9", "", "99999999999"])
def test_invalid_size_is_refused(size: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        Bytes().convert(size, None, None)


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [("20GB", 20 * 2**30), ("1.5 GiB", 3 * 2**29), ("512m", 2**29), ("7", 7), ("2T", 2**41), ("3kb", 3072)],
)
def test_sizes_are_parsed(size: str, bytes_: int) -> None:
    assert Bytes().convert(size, None, None) == bytes_


def test_invalid_file_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{}")
    refused = run("apply", "--plan", path, "--yes")
    assert (refused.exit_code, "not a plan of this version" in refused.stderr) == (64, True)


def test_held_back_step_is_a_warning(database: IndexDatabase, run: Run, tmp_path: Path) -> None:
    database.run(f"ALTER INDEX {OURS} RENAME TO elsewhere")
    run("plan", "--out", tmp_path / "plan.json")
    with open_transaction(database, "LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"):
        held = run("apply", "--plan", tmp_path / "plan.json", "--now", "--yes")
    assert (held.exit_code, "held back" in held.stdout) == (1, True)


# Processes


@contextmanager
def applying_process(database: IndexDatabase, path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Start `flask ops index apply` in a process, and wait until its build waits for a transaction."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "ops", "index", "apply", "--plan", str(path), "--now", "--yes",
         "--json"],
        cwd=PROJECT,
        env=own_environment(DATABASE_URL=database.url, JWT_SECRET_KEY="x" * 32, PARLEY_HOME=str(path.parent)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or bool(builders(database)))
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


ADVISORY = (
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def builders(database: IndexDatabase) -> list[int]:
    """Return the pids of sessions that wait in the middle of a build."""
    found = database.run(
        "SELECT pid FROM pg_stat_progress_create_index"
        " WHERE phase LIKE 'waiting for %' AND datname = current_database()"  # of this database only
    )
    return [pid for (pid,) in found]


@pytest.fixture
def planned(database: IndexDatabase, run: Run, tmp_path: Path) -> Path:
    """Write a plan that builds a missing index."""
    database.run(f"DROP INDEX {OURS}")
    path = tmp_path / "plan.json"
    assert run("plan", "--out", path).exit_code == 0
    return path


@pytest.mark.process
def test_build_continues_after_the_process_is_killed(database: IndexDatabase, run: Run, planned: Path) -> None:
    """PostgreSQL finishes the statement, and the session keeps its lock until then."""
    with open_transaction(database, WRITER), applying_process(database, planned) as process:
        process.kill()
        process.wait(SECONDS)
        assert len(builders(database)) == 1
        assert run("check", "--only", "indexes.invalid").exit_code == 0  # it is being built
        locked = run("apply", "--plan", planned, "--now", "--yes")
        assert (locked.exit_code, "Another plan is being applied" in locked.stderr) == (4, True)
    wait_until(
        lambda: not database.run("SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()")
    )
    assert run("check", "--only", "indexes.invalid", "--only", "indexes.expected").exit_code == 0
    assert database.run(INVALID) == []
    wait_until(lambda: not database.run(ADVISORY))
    assert "not needed any more" in run("apply", "--plan", planned, "--now", "--yes").stdout


@pytest.mark.process
def test_next_plan_repairs_after_process_and_session_are_killed(
    database: IndexDatabase, run: Run, planned: Path
) -> None:
    with open_transaction(database, WRITER), applying_process(database, planned) as process:
        (pid,) = builders(database)
        process.kill()
        process.wait(SECONDS)
        database.run("SELECT pg_terminate_backend(%(pid)s)", pid=pid)
        wait_until(lambda: not builders(database))
    result = run("check", "--only", "indexes.invalid")
    assert (result.exit_code, f"REINDEX INDEX CONCURRENTLY public.{OURS};" in result.stdout) == (2, True)
    again = planned.with_name("again.json")
    assert run("plan", "--out", again).exit_code == 0
    assert run("apply", "--plan", again, "--now", "--yes").exit_code == 0
    assert (database.run(INVALID), make_plan(database.context).steps) == ([], ())


@pytest.mark.process
def test_ctrl_c_cancels_the_build_and_drops_its_copy(database: IndexDatabase, run: Run, planned: Path) -> None:
    snapshot = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM users")
    with open_transaction(database, *snapshot), applying_process(database, planned) as process:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=SECONDS)
    (step,) = orjson.loads(stdout)["report"]["steps"]
    assert process.returncode == 2, stderr
    assert (step["outcome"], step["reason"], step["cleaned"]) == ("failed", "it was interrupted", [f"public.{OURS}"])
    assert database.run(INVALID) == []
