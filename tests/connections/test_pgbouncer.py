"""Every check, job and command through a PgBouncer in transaction mode, while people chat: nothing stays set in it."""

import inspect
import itertools
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import psycopg2
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import make_url

from app.database import autocommit, current_engine, current_engines, make_engine
from app.errors import OwnSessionRequired, ParleyError
from app.ids import new_id
from ops.catalogue.declarations import Job, load
from ops.catalogue.jobs import JOBS
from ops.cli.entry_points import ops
from ops.doctor.registry import CHECKS
from ops.doctor.run import run_doctor
from ops.levels import Level
from ops.runs.run import RunRequest, RunResult, run_job
from tests.connections.pgbouncer import PgBouncer, pgbouncer
from tests.database import fresh_database, migrate, migrated_database
from tests.factories import LoggedInUser, insert_user, make_conversation

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("pgbouncer")]

# Arguments of the commands that need some; {user} and {conversation} are of a user who does not chat.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "archive hold add": ("--conversation", "{conversation}", "--reason", "a long test"),
    "archive hold remove": ("{conversation}", "--yes"),
    "archive restore": ("--user", "{user}", "--yes"),
    "archive run": ("--yes",),
    "backup discard": ("nothing", "--yes"),
    "backup prune": ("--yes",),
    "backup restore": ("{backup}", "--into", "restored", "--yes"),
    "backup restore-files": ("{backup}",),
    "backup switch": ("nothing", "--yes"),
    "database settings": ("--dry-run",),
    "doctor acknowledge": ("audit.seals", "--reason", "a long test", "--until", "2030-01-01"),
    "doctor withdraw": ("{conversation}",),
    "index apply": ("--plan", "{plan}", "--now", "--yes"),
    "index plan": ("--out", "{plan}"),
    "jobs cancel": ("{conversation}", "--reason", "a long test"),
    "jobs pause": ("search.sweep", "--reason", "a long test"),
    "jobs purge": ("interactive", "--yes"),
    "jobs resume": ("search.sweep",),
    "jobs retry": ("{conversation}",),
    "jobs run": ("stats.record",),
    "jobs show": ("{conversation}",),
    "key list": ("{user}",),
    "key revoke": ("{user}", "{conversation}", "--yes"),
    "mcp add": ("of-a-test", "http://127.0.0.1:9/mcp"),
    "mcp allow": ("of-a-test", "a_tool"),
    "mcp disable": ("of-a-test",),
    "mcp disallow": ("of-a-test", "a_tool"),
    "mcp enable": ("of-a-test",),
    "mcp remove": ("of-a-test", "--yes"),
    "mcp test": ("of-a-test",),
    "psql": ("--", "-c", "SELECT 1"),
    "provider reset": ("--yes",),
    "provider use": ("demo", "--yes", "--dry-run"),
    "routine": ("daily",),
    "seed": ("--users", "1", "--conversations", "1", "--messages", "2", "--yes"),
    "user create": ("new@example.org", "--name", "New", "--generate"),
    "user disable": ("{user}", "--yes"),
    "user enable": ("{user}", "--yes"),
    "user erase": ("{user}", "--reason", "a long test", "--yes"),
    "user export": ("{user}", "--reason", "a long test", "--to", "{folder}"),
    "user logout": ("{user}", "--yes"),
    "user promote": ("{user}", "--role", "operator", "--yes"),
    "user quota": ("{user}", "--tokens", "1000"),
    "user read": ("{user}", "{conversation}", "--reason", "a long test"),
    "user reset-password": ("{user}",),
    "user show": ("{user}",),
    "user storage": ("{user}",),
}
LAST = ("user erase", "backup restore", "index apply")  # what they need is made by others
NEED_A_SESSION = {
    "backup create",
    "backup drill",
    "backup prune",
    "backup restore",
    "backup restore-files",
    "backup switch",
    "index apply",
}


@pytest.fixture(scope="module")
def database(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    name = f"parley_pgbouncer_{tmp_path_factory.mktemp('x').parent.parent.name[-12:]}"
    with migrated_database(postgres, name) as url:
        yield url


@pytest.fixture(scope="module")
def pooler(database: str) -> Iterator[PgBouncer]:
    """Run PgBouncer as Debian configures it, apart from the mode: it refuses startup options."""
    with pgbouncer(database) as running:
        yield running


@contextmanager
def chatting(flask_app: Flask) -> Iterator[list[int]]:
    """Let three users chat during the block. Yields the statuses of their requests."""
    statuses, stop = list[int](), threading.Event()
    with flask_app.app_context():
        users = [insert_user(flask_app, current_engine()) for _ in range(3)]

    def chat(user: LoggedInUser) -> None:
        client = flask_app.test_client()
        for number in itertools.count():
            if stop.is_set():
                return
            answer = client.post("/api/chat", json={"message": f"question {number}"}, headers=user.headers)
            statuses.append(answer.status_code)
            stop.wait(0.05)

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(chat, user) for user in users]
        try:
            yield statuses
        finally:
            stop.set()
    for future in running:
        future.result()


@pytest.fixture(params=["pooler only", "with direct URL"])
def pooled_app(
    request: pytest.FixtureRequest,
    make_chat_app: Callable[..., Flask],
    pooler: PgBouncer,
    database: str,
    tmp_path: Path,
) -> Flask:
    direct = database if request.param == "with direct URL" else None
    flask_app = make_chat_app(
        database={"url": pooler.url, "direct_url": direct, "pool_size": 5, "statement_timeout_ms": 60_000},
        backups={"url": (tmp_path / "backups").as_uri()},
    )
    (tmp_path / "backups").mkdir()
    return flask_app


def leaf_commands() -> list[str]:
    """Return all commands of `flask ops`."""

    def walk(command: click.Command, path: str) -> Iterator[str]:
        if not isinstance(command, click.Group):
            yield path
            return
        if command.invoke_without_command:
            yield path
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, f"{path} {name}".strip())

    with click.Context(ops) as context:
        return list(walk(ops, ""))


def run_one(job: Job, user: LoggedInUser, conversation: UUID) -> RunResult:
    """Run a job, with arguments that name things of `user` if it needs some."""
    arguments: dict[str, Any] = {
        "archive.restore_user": {"user_id": str(user.id)},
        "archive.undo": {"run_id": str(new_id())},
        "indexes.apply": {"run_id": str(new_id())},
        "users.mail_password_reset": {"user_id": str(user.id)},
        "search.index_conversations": {"conversations": [[str(user.id), str(conversation)]]},
        "users.erase": {"user_id": str(user.id), "reason": "a test", "by": str(user.id)},
    }.get(job.name, {})
    needed = {
        name
        for name, parameter in inspect.signature(load(job.function)).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    assert needed <= set(arguments)
    return run_job(job, partial(load(job.function), **arguments), RunRequest(arguments=arguments))


def test_checks_and_jobs_leave_nothing_behind(pooled_app: Flask, pooler: PgBouncer) -> None:
    with chatting(pooled_app) as statuses, pooled_app.app_context():
        report = run_doctor(checks=CHECKS)
        user = insert_user(pooled_app, current_engine())
        conversation = make_conversation(current_engine(), user)
        runs = {job.name: run_one(job, user, conversation) for job in JOBS}
    assert set(statuses) == {200}
    assert len(statuses) > 10
    assert [result.reason for result in report.results if "failed" in str(result.reason)] == []
    unexpected = {name for name, result in runs.items() if not isinstance(result.error, ParleyError | None)}
    assert unexpected == set()
    refused = {name for name, result in runs.items() if isinstance(result.error, OwnSessionRequired)}
    has_direct = "direct" in _engines(pooled_app)
    assert refused == (set() if has_direct else {"backups.daily", "backups.weekly_drill", "backups.prune"})
    assert pooler.leftovers() == []


@pytest.fixture
def duplicate_index(database: str) -> None:
    """Create two equal indexes, so that there is a repair to plan and to apply."""
    url = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        for name in ("for_a_test", "for_a_test_too"):
            cursor.execute(f"CREATE INDEX IF NOT EXISTS {name} ON users (email)")


@pytest.mark.usefixtures("duplicate_index")
def test_commands_leave_nothing_behind(pooled_app: Flask, pooler: PgBouncer, tmp_path: Path) -> None:
    with pooled_app.app_context():
        user = insert_user(pooled_app, current_engine())
        conversation = make_conversation(current_engine(), user)
    values = {"user": str(user.id), "conversation": str(conversation), "folder": str(tmp_path / "export")}
    values |= {"plan": str(tmp_path / "plan.json"), "backup": "none"}
    commands = sorted(leaf_commands(), key=lambda name: (name in LAST, name))
    results: dict[str, Result] = {}
    with chatting(pooled_app) as statuses:
        for command in commands:
            given = [part.format_map(values) for part in ARGUMENTS.get(command, ())]
            results[command] = pooled_app.test_cli_runner().invoke(ops, [*command.split(), *given])
    assert set(statuses) == {200}
    assert pooler.leftovers() == []
    crashed = {name: result.output for name, result in results.items() if "Traceback" in result.output}
    assert crashed == {}
    misuse = re.compile("Error: (Missing|No such|Got)")
    misused = {name: result.output for name, result in results.items() if misuse.search(result.output)}
    assert misused == {}
    refused = {
        name for name, result in results.items() if result.exit_code == 3 and "session of its own" in result.stderr
    }
    assert refused == (set() if "direct" in _engines(pooled_app) else NEED_A_SESSION - {"backup restore"})


def _engines(flask_app: Flask) -> list[str]:
    with flask_app.app_context():
        return list(current_engines())


def test_migration_refuses_a_pooler_before_its_first_statement(
    make_chat_app: Callable[..., Flask], postgres: str, database: str
) -> None:
    with fresh_database(postgres, f"{make_url(database).database}_empty") as empty, pgbouncer(empty) as pooler:
        pooled = make_chat_app(database={"url": pooler.url})
        with pooled.app_context(), pytest.raises(click.ClickException, match="DATABASE_DIRECT_URL") as refused:
            migrate()
        assert refused.value.exit_code == 3
        with pooled.app_context(), autocommit() as connection:
            assert connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar_one() is None
        direct = make_chat_app(database={"url": pooler.url, "direct_url": empty})
        with direct.app_context():
            migrate()
        with pooled.app_context():
            migrate()  # nothing is left to do
            with pytest.raises(click.ClickException, match="DATABASE_DIRECT_URL"):
                migrate("0023")
        assert pooler.leftovers() == []
        for flask_app in (pooled, direct):
            with flask_app.app_context():
                for engine in current_engines().values():
                    engine.dispose()


def test_refused_options_are_left_out_with_one_line(
    make_chat_app: Callable[..., Flask], database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pgbouncer(database) as pooler, caplog.at_level(logging.WARNING, "parley.database"):
        flask_app = make_chat_app(database={"url": pooler.url, "pool_size": 3})
        with flask_app.app_context():
            with autocommit() as first, autocommit() as second, autocommit(current_engines()["heartbeats"]) as third:
                for connection in (first, second, third):
                    assert connection.connection.dbapi_connection.is_pooled  # type: ignore[union-attr]
            for engine in current_engines().values():
                engine.dispose()
    lines = [record.getMessage() for record in caplog.records if "refuses startup options" in record.getMessage()]
    assert len(lines) == 1
    assert "flask ops database settings" in lines[0]


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_pooler_is_recognised_in_each_mode(make_chat_app: Callable[..., Flask], database: str, mode: str) -> None:
    with pgbouncer(database, mode=mode, extra="ignore_startup_parameters = options") as pooler:
        flask_app = make_chat_app(database={"url": pooler.url})
        with flask_app.app_context():
            user = insert_user(flask_app, current_engine())
            answer = flask_app.test_client().post("/api/chat", json={"message": "hello"}, headers=user.headers)
            assert answer.status_code == 200
            with autocommit() as connection:
                assert connection.connection.dbapi_connection.is_pooled  # type: ignore[union-attr]
            current_engine().dispose()
        assert pooler.leftovers() == []


def test_statement_in_a_poisoned_session_is_found(pooler: PgBouncer) -> None:
    """Check that what a client sets in a shared session is seen at all."""
    engine = make_engine(pooler.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("SET work_mem = '5MB'; PREPARE left_behind AS SELECT 1")
    found = pooler.leftovers()
    with engine.connect() as connection:
        connection.exec_driver_sql("RESET ALL; DEALLOCATE ALL")
    engine.dispose()
    assert "setting work_mem = 5120" in found
    assert "prepared statement left_behind" in found
    assert pooler.leftovers() == []


def test_chats_go_on_after_pooler_lost_its_server_connections(
    make_chat_app: Callable[..., Flask], pooler: PgBouncer, database: str
) -> None:
    flask_app = make_chat_app(database={"url": pooler.url, "pool_size": 3})
    with flask_app.app_context():
        user = insert_user(flask_app, current_engine())
    client = flask_app.test_client()
    assert client.post("/api/chat", json={"message": "before"}, headers=user.headers).status_code == 200
    with psycopg2.connect(database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert client.post("/api/chat", json={"message": "after"}, headers=user.headers).status_code == 200


def test_pooler_without_direct_url_is_found(make_chat_app: Callable[..., Flask], pooler: PgBouncer) -> None:
    with make_chat_app(database={"url": pooler.url}).app_context():
        report = run_doctor(checks=[check for check in CHECKS if check.id == "connection.pooler"])
    assert report.level is Level.WARNING
