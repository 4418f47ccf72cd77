"""`flask ops index`: what it prints, asks and refuses, with how it ends, and what is left when it is killed."""

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

from ops.cli.index import Bytes
from ops.cli.nouns import ops
from ops.indexes.planning import make_plan
from tests.ops.conftest import PROJECT, SECONDS, eventually, own_environment
from tests.ops.indexes.conftest import House, holding

OURS = "ix_turns_conversation"
TWICE = "CREATE INDEX twice ON turns (user_id, conversation_id)"
WRITER = "LOCK TABLE turns IN ROW EXCLUSIVE MODE"
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"

Run = Callable[..., Result]


@pytest.fixture
def run(applying: Flask) -> Run:
    """A function that runs `flask ops index ...` on the test's database."""
    return lambda *arguments, **options: applying.test_cli_runner().invoke(
        ops, ["index", *map(str, arguments)], **options
    )


def report(result: Result, command: str) -> Any:
    document = orjson.loads(result.stdout)
    assert (document["schema"], document["command"]) == ("parley.ops/1", command)
    return document["report"]


def test_check_says_what_is_wrong_and_which_command_mends_it(house: House, run: Run) -> None:
    house.run("INSERT INTO job_runs (id, job, status) VALUES (gen_random_uuid(), 'x', 'running')")
    assert run("check").exit_code == 0
    house.run(TWICE)
    shown = run("check", "--only", "indexes.duplicate")
    assert shown.exit_code == 1
    assert "public.twice is the same as public.ix_turns_conversation" in shown.stdout
    assert "DROP INDEX CONCURRENTLY public.twice;" in shown.stdout
    assert "see docs/runbooks/indexes-duplicate.md" in shown.stdout
    answers = report(run("check", "--json"), "index check")["answers"]
    assert {answer["check"] for answer in answers} >= {"indexes.corruption", "indexes.bloat", "tables.wraparound"}
    house.run("DROP INDEX twice", f"DROP INDEX {OURS}")
    assert run("check", "--only", "indexes.expected").exit_code == 2
    house.run("DROP EXTENSION amcheck")
    assert run("check", "--only", "indexes.corruption").exit_code == 3
    assert run("check", "--only", "indexes.made_up").exit_code == 64


def test_plan_writes_a_file_that_apply_reads(house: House, run: Run, tmp_path: Path) -> None:
    house.run(TWICE)
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
    assert run("apply", "--plan", path, "--now").exit_code == 64  # nobody to ask
    assert house.value("SELECT to_regclass('twice')") is not None
    tried = run("apply", "--plan", path, "--now", "--dry-run", "--json")
    assert [step["outcome"] for step in report(tried, "index apply")["steps"]] == ["would be done"]
    applied = run("apply", "--plan", path, "--now", "--yes", "--json")
    assert applied.exit_code == 0
    (step,) = report(applied, "index apply")["steps"]
    assert (step["outcome"], step["before"]["valid"], step["after"]) == ("done", True, {})
    assert "Undo:" in applied.stderr
    ((actor, result, details),) = house.run("SELECT actor_kind, result, details FROM audit_events")
    assert (actor, result, details["steps"][0]["outcome"]) == ("command", "done", "done")
    assert "not needed any more" in run("apply", "--plan", path, "--now", "--yes").stdout


def test_with_nothing_to_plan_no_file_is_written(run: Run, tmp_path: Path) -> None:
    planned = run("plan", "--out", tmp_path / "plan.json")
    assert (planned.exit_code, list(tmp_path.iterdir())) == (0, [])
    assert "There is nothing to plan, so no file was written." in planned.stdout


def test_a_plan_without_a_file(house: House, run: Run) -> None:
    house.run(TWICE)
    planned = report(run("plan", "--out", "-", "--json"), "index plan")
    assert (planned["file"], len(planned["plan"]["steps"])) == (None, 1)


@pytest.mark.parametrize("size", ["20 buckets", "-1", "1e9", "", "99999999999"])
def test_a_size_that_is_none(size: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size"):
        Bytes().convert(size, None, None)


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [("20GB", 20 * 2**30), ("1.5 GiB", 3 * 2**29), ("512m", 2**29), ("7", 7), ("2T", 2**41), ("3kb", 3072)],
)
def test_sizes_as_people_write_them(size: str, bytes_: int) -> None:
    assert Bytes().convert(size, None, None) == bytes_


def test_a_wrong_file_is_a_wrong_call(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{}")
    refused = run("apply", "--plan", path, "--yes")
    assert (refused.exit_code, "no plan of this version" in refused.stderr) == (64, True)


def test_a_step_that_is_held_back_is_a_warning(house: House, run: Run, tmp_path: Path) -> None:
    house.run(f"ALTER INDEX {OURS} RENAME TO elsewhere")
    run("plan", "--out", tmp_path / "plan.json")
    with holding(house, "LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"):
        held = run("apply", "--plan", tmp_path / "plan.json", "--now", "--yes")
    assert (held.exit_code, "held back" in held.stdout) == (1, True)


# The process


@contextmanager
def applying_process(house: House, path: Path) -> "Iterator[subprocess.Popen[str]]":
    """`flask ops index apply`, in a process of its own, until its build waits for somebody."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "ops", "index", "apply", "--plan", str(path), "--now", "--yes",
         "--json"],
        cwd=PROJECT,
        env=own_environment(DATABASE_URL=house.url, JWT_SECRET_KEY="x" * 32, PARLEY_HOME=str(path.parent)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        eventually(lambda: process.poll() is not None or bool(builders(house)))
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


ADVISORY = (
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def builders(house: House) -> list[int]:
    """The sessions that wait in the middle of a build."""
    found = house.run(
        "SELECT pid FROM pg_stat_progress_create_index"
        " WHERE phase LIKE 'waiting for %' AND datname = current_database()"  # others build on this server, too
    )
    return [pid for (pid,) in found]


@pytest.fixture
def planned(house: House, run: Run, tmp_path: Path) -> Path:
    """A plan that builds a missing index."""
    house.run(f"DROP INDEX {OURS}")
    path = tmp_path / "plan.json"
    assert run("plan", "--out", path).exit_code == 0
    return path


@pytest.mark.process
def test_a_killed_process_leaves_a_build_that_goes_on_alone(house: House, run: Run, planned: Path) -> None:
    """PostgreSQL finishes what it was asked for, under the lock that its session holds."""
    with holding(house, WRITER), applying_process(house, planned) as process:
        process.kill()
        process.wait(SECONDS)
        assert len(builders(house)) == 1
        assert run("check", "--only", "indexes.invalid").exit_code == 0  # it is being built
        locked = run("apply", "--plan", planned, "--now", "--yes")
        assert (locked.exit_code, "Another plan is being applied" in locked.stderr) == (4, True)
    eventually(lambda: not house.run("SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()"))
    assert run("check", "--only", "indexes.invalid", "--only", "indexes.expected").exit_code == 0
    assert house.run(INVALID) == []
    eventually(lambda: not house.run(ADVISORY))
    assert "not needed any more" in run("apply", "--plan", planned, "--now", "--yes").stdout


@pytest.mark.process
def test_process_and_session_killed_and_the_next_plan_mends_it(house: House, run: Run, planned: Path) -> None:
    with holding(house, WRITER), applying_process(house, planned) as process:
        (pid,) = builders(house)
        process.kill()
        process.wait(SECONDS)
        house.run("SELECT pg_terminate_backend(%(pid)s)", pid=pid)
        eventually(lambda: not builders(house))
    told = run("check", "--only", "indexes.invalid")
    assert (told.exit_code, f"REINDEX INDEX CONCURRENTLY public.{OURS};" in told.stdout) == (2, True)
    again = planned.with_name("again.json")
    assert run("plan", "--out", again).exit_code == 0
    assert run("apply", "--plan", again, "--now", "--yes").exit_code == 0
    assert (house.run(INVALID), make_plan(house.probe).steps) == ([], ())


@pytest.mark.process
def test_ctrl_c_ends_the_build_and_takes_away_what_it_left(house: House, run: Run, planned: Path) -> None:
    snapshot = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM users")
    with holding(house, *snapshot), applying_process(house, planned) as process:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=SECONDS)
    (step,) = orjson.loads(stdout)["report"]["steps"]
    assert process.returncode == 2, stderr
    assert (step["outcome"], step["reason"], step["cleaned"]) == ("failed", "it was interrupted", [f"public.{OURS}"])
    assert house.run(INVALID) == []
