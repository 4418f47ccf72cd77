"""`flask ops archive` as somebody on call meets it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Engine

from app.models.columns import new_id
from ops.archive.alone import alone
from tests.archived import archive_all, make_idle, place, plain
from tests.factories import Account
from tests.ops.archive.conftest import Execute

Run = Callable[..., Result]


@pytest.fixture
def archive(flask_app: Flask) -> Run:
    """Run `flask ops archive ...`; nobody is there to be asked."""
    return lambda *arguments: flask_app.test_cli_runner().invoke(args=["ops", "archive", *map(str, arguments)])


@pytest.fixture
def report(archive: Run) -> Callable[..., Any]:
    """The report of a command that ends with this exit code."""

    def told(*arguments: Any, code: int = 0) -> Any:
        result = archive(*arguments, "--json")
        assert result.exit_code == code, result.output
        document = json.loads(result.stdout)
        assert document["schema"] == "parley.ops/1"
        return document["report"]

    return told


def test_from_the_plan_to_the_undo(
    archive: Run, report: Callable[..., Any], engine: Engine, user: Account, execute: Execute
) -> None:
    conversations = [make_idle(engine, user, plain(3)) for _ in range(2)]
    assert report("plan")["conversations"] == 2
    assert report("status", code=2)["backlog"]["conversations"] == 2  # idle for years: it does not keep up
    refused = archive("run")
    assert refused.exit_code == 64
    assert "Will:  move 6 messages of 2 conversations into bundles" in refused.stderr
    assert "--yes" in refused.stderr
    assert report("run", "--dry-run")["messages"] == 6
    assert {place(engine, each)[1] for each in conversations} == {"live"}
    first = report("run", "--yes", "--max-rows", 3)
    assert (first["state"], first["conversations"]) in (("stopped", 1), ("completed", 2))
    done = report("run", "--yes", "--resume", first["id"]) if first["state"] == "stopped" else first
    assert (done["state"], done["conversations"]) == ("completed", 2)
    stands = report("status")
    assert (stands["bundles"], stands["bundled_messages"], stands["under_way"]) == (2, 6, False)
    assert [each["id"] for each in stands["runs"]] == [done["id"]]
    assert report("verify")["verified"] == 2
    assert report("restore", "--run", done["id"], "--dry-run")["restored"] == 2
    assert report("restore", "--conversation", conversations[0], "--yes")["restored"] == 1
    undone = report("restore", "--run", done["id"], "--yes")
    assert (undone["restored"], undone["restored_before"], undone["deleted"]) == (1, 1, 0)
    assert {place(engine, each) for each in conversations} == {("active", "live", 3, 0)}
    acts = execute("SELECT action, result FROM audit_events WHERE action LIKE 'archive.%' ORDER BY id DESC LIMIT 3")
    assert acts == [("archive.restore", "done"), ("archive.restore", "done"), ("archive.run", "done")]


def test_for_people_it_is_a_table_with_the_id_of_the_run(archive: Run, engine: Engine, user: Account) -> None:
    make_idle(engine, user, plain(3))
    done = archive("run", "--yes")
    assert done.exit_code == 0
    assert "completed" in done.stdout
    assert "completed" in archive("status").stdout


def test_a_user_is_named_by_id_or_address(
    flask_app: Flask, report: Callable[..., Any], archive: Run, engine: Engine, user: Account
) -> None:
    for name in (user.id, user.email.upper()):
        make_idle(engine, user, plain(3))
        archive_all(flask_app)
        assert report("restore", "--user", name, "--yes")["restored"] == 1
    unknown = archive("restore", "--user", "nobody@example.org", "--yes")
    assert (unknown.exit_code, "There is no account of nobody@example.org" in unknown.stderr) == (64, True)


def test_holds(archive: Run, report: Callable[..., Any], engine: Engine, user: Account, execute: Execute) -> None:
    conversation = make_idle(engine, user, plain(3))
    [hold] = report("hold", "add", "--conversation", conversation, "--reason", "case 4711")["holds"]
    [listed] = report("hold", "list")
    assert (listed["id"], listed["reason"], listed["conversation_id"]) == (hold, "case 4711", str(conversation))
    assert report("run", "--yes")["conversations"] == 0
    assert report("hold", "add", "--user", user.email, "--reason", "another")["held"] == 1
    assert report("hold", "remove", hold, "--yes")["still_held"]
    [other] = report("hold", "list", "--user", user.id)
    assert not report("hold", "remove", other["id"], "--yes")["still_held"]
    assert report("run", "--yes")["conversations"] == 1
    [(reason,)] = execute(
        "SELECT details->>'reason' FROM audit_events WHERE action = 'hold.add' ORDER BY id DESC LIMIT 1"
    )
    assert reason == "another"


def test_damage_is_an_exit_code(
    archive: Run, report: Callable[..., Any], flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    make_idle(engine, user, plain(3))
    run = archive_all(flask_app)
    execute("UPDATE conversation_archives SET bundle = substring(bundle FROM 2)")
    assert report("verify", code=2)["damaged"] == 1
    assert report("restore", "--run", run.id, "--yes", code=2)["damaged"] == 1
    doctor = flask_app.test_cli_runner().invoke(args=["ops", "doctor", "--only", "archive", "--json"])
    assert doctor.exit_code == 2
    assert {answer["check"]: answer["level"] for answer in json.loads(doctor.stdout)["report"]["answers"]} == {
        "archive.backlog": "ok",
        "archive.bundles": "critical",
    }


def test_wrong_calls_and_locks(archive: Run, flask_app: Flask, user: Account) -> None:
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
    with flask_app.app_context(), alone():
        for call in (("run", "--yes"), ("restore", "--run", new_id(), "--yes")):
            assert archive(*call).exit_code == 4
        assert json.loads(archive("status", "--json").stdout)["report"]["under_way"] is True


def test_a_run_whose_process_has_gone_says_so_before_anybody_closes_it(
    archive: Run, flask_app: Flask, execute: Execute
) -> None:
    execute(f"INSERT INTO archive_runs (id, cutoff) VALUES ('{new_id()}', now())")
    with flask_app.app_context(), alone():
        assert [run["state"] for run in json.loads(archive("status", "--json").stdout)["report"]["runs"]] == ["running"]
    (run,) = json.loads(archive("status", "--json").stdout)["report"]["runs"]
    assert run["state"] == "interrupted"
    assert "--resume" in run["reason"]
