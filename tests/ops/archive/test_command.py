"""The commands of `flask ops archive`."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Engine

from app.ids import new_id
from ops.archive.lock import archival_lock
from ops.cli.entry_points import ops
from tests.bundling import archive_all, make_idle, numbered_messages, storage_state
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute

Run = Callable[..., Result]


@pytest.fixture
def archive(flask_app: Flask) -> Run:
    """Return a function that runs `flask ops archive ...` without a terminal."""
    return lambda *arguments: flask_app.test_cli_runner().invoke(ops, ["archive", *map(str, arguments)])


@pytest.fixture
def report(archive: Run) -> Callable[..., Any]:
    """Return a function that runs a command, checks its exit code and returns its report."""

    def run_command(*arguments: Any, code: int = 0) -> Any:
        result = archive(*arguments, "--json")
        assert result.exit_code == code, result.output
        document = json.loads(result.stdout)
        assert document["schema"] == "parley.ops/2"
        return document["report"]

    return run_command


def test_plan_run_status_and_restore_commands(
    archive: Run, report: Callable[..., Any], engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    conversations = [make_idle(engine, user, numbered_messages(3)) for _ in range(2)]
    assert report("plan")["conversations"] == 2
    assert report("status", code=2)["backlog"]["conversations"] == 2  # idle for years: it does not keep up
    refused = archive("run")
    assert refused.exit_code == 64
    assert "Will:  move 6 messages of 2 conversations into bundles" in refused.stderr
    assert "--yes" in refused.stderr
    assert report("run", "--dry-run")["messages"] == 6
    assert {storage_state(engine, conversation)[1] for conversation in conversations} == {"live"}
    first = report("run", "--yes", "--max-rows", 3)
    assert (first["state"], first["conversations"]) in (("stopped", 1), ("completed", 2))
    done = report("run", "--yes", "--resume", first["id"]) if first["state"] == "stopped" else first
    assert (done["state"], done["conversations"]) == ("completed", 2)
    current = report("status")
    assert (current["bundles"], current["bundled_messages"], current["running"]) == (2, 6, False)
    assert [run["id"] for run in current["runs"]] == [done["id"]]
    assert report("verify")["verified"] == 2
    assert report("restore", "--run", done["id"], "--dry-run")["restored"] == 2
    assert report("restore", "--conversation", conversations[0], "--yes")["restored"] == 1
    undone = report("restore", "--run", done["id"], "--yes")
    assert (undone["restored"], undone["restored_before"], undone["deleted"]) == (1, 1, 0)
    assert {storage_state(engine, conversation) for conversation in conversations} == {("active", "live", 3, 0)}
    acts = execute("SELECT action, result FROM audit_events WHERE action LIKE 'archive.%' ORDER BY id DESC LIMIT 3")
    assert acts == [("archive.restore", "done"), ("archive.restore", "done"), ("archive.run", "done")]


def test_run_prints_a_table_with_the_run_id(archive: Run, engine: Engine, user: LoggedInUser) -> None:
    make_idle(engine, user, numbered_messages(3))
    done = archive("run", "--yes")
    assert done.exit_code == 0
    assert "completed" in done.stdout
    assert "completed" in archive("status").stdout


def test_completed_commands_are_runs_of_their_jobs(archive: Run, execute: Execute, user: LoggedInUser) -> None:
    runs = "SELECT count(*) FROM job_runs WHERE job = '{}' AND status = 'succeeded' AND started_at <= finished_at"
    before = {job: execute(runs.format(job))[0][0] for job in ("archive.run", "archive.verify")}
    assert archive("run", "--yes").exit_code == 0
    assert archive("verify").exit_code == 0
    assert {job: execute(runs.format(job))[0][0] - count for job, count in before.items()} == dict.fromkeys(before, 1)


def test_restore_accepts_a_user_id_or_email(
    flask_app: Flask, report: Callable[..., Any], archive: Run, engine: Engine, user: LoggedInUser
) -> None:
    for name in (user.id, user.email.upper()):
        make_idle(engine, user, numbered_messages(3))
        archive_all(flask_app)
        assert report("restore", "--user", name, "--yes")["restored"] == 1
    unknown = archive("restore", "--user", "unknown@example.org", "--yes")
    assert (unknown.exit_code, "There is no account of unknown@example.org" in unknown.stderr) == (64, True)


def test_hold_commands(
    archive: Run, report: Callable[..., Any], engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    [hold] = report("hold", "add", "--conversation", conversation, "--reason", "case 4711/26")["holds"]
    [listed] = report("hold", "list")
    assert (listed["id"], listed["reason"], listed["conversation_id"]) == (hold, "case 4711/26", str(conversation))
    assert report("run", "--yes")["conversations"] == 0
    assert report("hold", "add", "--user", user.email, "--reason", "another case")["held"] == 1
    assert report("hold", "remove", hold, "--yes")["still_held"]
    [other] = report("hold", "list", "--user", user.id)
    assert not report("hold", "remove", other["id"], "--yes")["still_held"]
    assert report("run", "--yes")["conversations"] == 1
    [(reason,)] = execute(
        "SELECT details->>'reason' FROM audit_events WHERE action = 'hold.add' ORDER BY id DESC LIMIT 1"
    )
    assert reason == "another case"


def test_damage_sets_the_exit_code(
    archive: Run, report: Callable[..., Any], flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    make_idle(engine, user, numbered_messages(3))
    run = archive_all(flask_app)
    execute("UPDATE conversation_archives SET bundle = substring(bundle FROM 2)")
    assert report("verify", code=2)["damaged"] == 1
    assert report("restore", "--run", run.id, "--yes", code=2)["damaged"] == 1
    doctor = flask_app.test_cli_runner().invoke(ops, ["doctor", "--only", "archive", "--json"])
    assert doctor.exit_code == 2
    assert {answer["check"]: answer["level"] for answer in json.loads(doctor.stdout)["report"]["results"]} == {
        "archive.backlog": "ok",
        "archive.bundles": "critical",
    }


def test_usage_errors_and_held_lock_set_the_exit_code(archive: Run, flask_app: Flask, user: LoggedInUser) -> None:
    wrong = [
        ("restore", "--yes"),
        ("restore", "--run", new_id(), "--user", user.id, "--yes"),
        ("restore", "--run", new_id(), "--yes"),
        ("restore", "--conversation", new_id(), "--yes"),
        ("restore", "--conversation", "x", "--yes"),
        ("run", "--resume", new_id(), "--yes"),
        ("run", "--max-rows", "0", "--yes"),
        ("hold", "add", "--reason", "x"),
        ("hold", "add", "--conversation", new_id(), "--reason", ""),
        ("hold", "remove", new_id(), "--yes"),
    ]
    codes = {call: archive(*call).exit_code for call in wrong}
    assert codes == dict.fromkeys(wrong, 64)
    with flask_app.app_context(), archival_lock():
        for call in (("run", "--yes"), ("restore", "--run", new_id(), "--yes")):
            assert archive(*call).exit_code == 4
        assert json.loads(archive("status", "--json").stdout)["report"]["running"] is True


def test_status_shows_a_run_of_a_dead_process_as_interrupted(archive: Run, flask_app: Flask, execute: Execute) -> None:
    execute(f"INSERT INTO archive_runs (id, cutoff) VALUES ('{new_id()}', now())")
    with flask_app.app_context(), archival_lock():
        assert [run["state"] for run in json.loads(archive("status", "--json").stdout)["report"]["runs"]] == ["running"]
    (run,) = json.loads(archive("status", "--json").stdout)["report"]["runs"]
    assert run["state"] == "interrupted"
    assert "--resume" in run["reason"]
