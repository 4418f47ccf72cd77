"""Processes with wrong settings or without a server: one clear line at start, and /health names the cause."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import urllib3
from sqlalchemy import NullPool, create_engine, make_url, text

from app.config import NAMES, load_settings
from app.errors import SettingsError
from tests.database import fresh_database
from tests.deploy.compose import ROOT, SECRETS
from tests.deploy.stack import Stack
from tests.faults.proxy import Proxy
from tests.processes import reaped
from tests.waiting import wait_until
from tests.web.server import WebServer

HEAD = (ROOT / "migrations" / ".current-head").read_text().strip()
UNREACHABLE = "postgresql://user:topsecret@127.0.0.1:1/parley"

INVALID = {
    "PORT": "abc",
    "DB_POOL_SIZE": "0",
    "JWT_SECRET_KEY": "topsecret",
    "CELERY_BROKER_URL": "redis://:topsecret@localhost:port/0",
    "DATABASE_URL": "postgresql://me:topsecret@localhost:port/parley",
    "LOG_LEVEL": "LOUD",
}


def cut_proxy(url: str, stack: ExitStack) -> tuple[Proxy, str]:
    """Return a proxy to the server at `url`, which is cut, and the URL through it."""
    server = make_url(url)
    proxy = stack.enter_context(Proxy((str(server.host), int(server.port or 0))))
    proxy.cut()
    return proxy, server.set(port=proxy.port).render_as_string(hide_password=False)


@pytest.mark.process
def test_invalid_settings_end_every_process_with_one_line_each(tmp_path: Path) -> None:
    for name in ("app", "ops", "tasks", "migrations", "wsgi.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in INVALID.items()))
    stack = Stack(tmp_path, UNREACHABLE, "redis://127.0.0.1:1/0", {})
    started = {}
    for service in ("web", "worker", "beat", "migrate"):
        environment = {k: v for k, v in stack.environment(service).items() if k not in {**INVALID, **SECRETS}}
        started[service] = subprocess.Popen(
            [*stack.services[service].command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with reaped(*started.values()):
        outputs = {service: process.communicate(timeout=60)[0] for service, process in started.items()}
    for service, process in started.items():
        output = outputs[service]
        assert process.returncode not in (0, None), service
        lines = output.splitlines()
        assert sorted(re.findall(r"^parley: ([A-Z_]+): ", output, re.MULTILINE)) == sorted(INVALID), (service, output)
        assert len(lines) == len(INVALID), (service, output)
        assert "topsecret" not in output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PORT=8000\nHOST='127.0.0.1\n", r"\.env, line 2: is not NAME=value, or its quotes do not match"),
        (b"a line of prose\n", r"\.env, line 1: is not NAME=value"),
        (b"AI_MODEL=caf\xe9\n", r"\.env: is not UTF-8 text"),
        ("PORT=8000\n".encode("utf-16"), r"\.env: is not UTF-8 text; save it again as UTF-8$"),
        (
            "PORT=8000\n".encode("utf-16-le"),
            r"\.env: contains NUL characters, which UTF-16 has; save it again as UTF-8$",
        ),
        (None, r"\.env: Is a directory"),
        (b"PORT=8000\n\nAI_MODLE=gpt-9\n", r"\.env, line 3: unknown setting AI_MODLE; did you mean AI_MODEL\?$"),
        (b"export WEB_WORKER=3\n", r"\.env, line 1: unknown setting WEB_WORKER; did you mean WEB_WORKERS\?$"),
    ],
)
def test_invalid_dotenv_file_is_rejected(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / ".env"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_settings(path)


def test_variables_of_other_programs_are_ignored(tmp_path: Path) -> None:
    compose = Path("docker-compose.yml").read_text()
    foreign = sorted({*re.findall(r"\$\{([A-Z_]+)", compose), "SENTRY_DSN", "OPENAI_ORG", "PATH"} - set(NAMES))
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}=x\n" for name in foreign) + "ai_model=some\n")
    assert load_settings(path).provider.model == "some"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p%40ss@host:5432/db?sslmode=require",
        "postgres://user:a?b/c=d@host/db",
        "postgresql+psycopg2://[::1]:5432/db",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://",
    ],
)
def test_unusual_database_url_is_accepted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    accepted = load_settings(None).database.url
    assert accepted is not None
    make_url(accepted)


@pytest.mark.process
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (UNREACHABLE, 'connection to server at "127.0.0.1", port 1 failed: Connection refused'),
        (f"{UNREACHABLE}?nonsense=1", 'invalid connection option "nonsense"'),
    ],
)
def test_migration_without_database_fails_with_one_line(tmp_path: Path, url: str, reason: str) -> None:
    done = Stack(tmp_path, url, "redis://127.0.0.1:1/0", {}).run("migrate")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: The database does not answer, so nothing was migrated: ")
    assert reason in line
    assert "topsecret" not in line


@pytest.fixture
def empty_url(postgres: str, testrun_uid: str, worker_id: str) -> Iterator[str]:
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_bad_start") as url:
        yield url


@pytest.fixture
def set_recorded_revision(empty_url: str) -> Callable[[str], None]:
    """Return a function that sets the revision recorded in the database."""

    def set_revision(revision: str) -> None:
        engine = create_engine(empty_url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})

    return set_revision


@pytest.mark.process
def test_health_names_the_missing_database_migration_or_broker(
    tmp_path: Path, empty_url: str, broker_url: str, set_recorded_revision: Callable[[str], None]
) -> None:
    with ExitStack() as stack:
        database, database_url = cut_proxy(empty_url, stack)
        broker, proxied_broker_url = cut_proxy(broker_url, stack)
        server = WebServer(tmp_path, DATABASE_URL=database_url, CELERY_BROKER_URL=proxied_broker_url, WEB_WORKERS="1")
        stack.push(server)  # without waiting, because it is not healthy yet
        wait_until(lambda: is_alive(server), server.log)

        def state() -> tuple[int, dict[str, str]]:
            response = server.http.request("GET", f"{server.url}/health/ready")
            return response.status, response.json()["parts"]

        def health() -> tuple[int, str]:
            response = server.http.request("GET", f"{server.url}/health")
            return response.status, response.json()["detail"]

        # At the start neither database nor broker is reachable.
        status, parts = state()
        assert status == 503
        assert "Connection refused" in parts["database"]
        assert parts["broker"] == "Does not answer; jobs wait."
        assert health() == (503, "The database does not answer (OperationalError).")

        # The database is empty, then behind, current and ahead.
        database.repair()
        assert state()[1]["migrations"] == "The database is empty; run `flask db upgrade`."
        migrated = Stack(tmp_path / "migrate", empty_url, broker_url, {}).run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        status, parts = state()
        assert (status, parts["database"], parts["migrations"]) == (200, "ok", "ok")  # chats need no broker
        set_recorded_revision("0001")
        behind = f"The database is at migration 0001, this code at {HEAD}; run `flask db upgrade`."
        assert state()[1]["migrations"] == behind
        assert health() == (503, behind)
        set_recorded_revision("9999")
        assert "this server is older than its database: deploy the newer" in state()[1]["migrations"]
        older = Stack(tmp_path / "older", empty_url, broker_url, {}).run("migrate")
        assert older.returncode == 1
        assert older.stderr.splitlines()[-1].endswith("this code is older than its database: deploy the newer")
        assert "Traceback" not in older.stderr
        set_recorded_revision(HEAD)

        # The broker becomes reachable; then both become unreachable.
        broker.repair()
        assert state() == (200, dict.fromkeys(("database", "migrations", "broker"), "ok"))
        broker.cut()
        assert state() == (200, {"database": "ok", "migrations": "ok", "broker": "Does not answer; jobs wait."})
        database.cut()
        assert state()[0] == 503
        database.repair()
        assert state()[0] == 200

        assert is_alive(server)
        log = server.log()
        assert "Traceback" not in log
        assert str(make_url(empty_url).password) not in log
        assert str(make_url(broker_url).password) not in log


def is_alive(server: WebServer) -> bool:
    """Return whether the server responds to its liveness check; fail if it has ended."""
    assert server.process.poll() is None, server.log()
    try:
        return server.http.request("GET", f"{server.url}/health/live").status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.mark.process
def test_worker_and_beat_wait_for_the_broker(database_url: str, broker_url: str, tmp_path: Path) -> None:
    with ExitStack() as exit_stack:
        broker, proxied_url = cut_proxy(broker_url, exit_stack)
        stack = exit_stack.enter_context(Stack(tmp_path, database_url, proxied_url, {"WORKER_CONCURRENCY": "1"}))
        stack.start("worker")
        stack.start("beat")
        for name in ("worker 0", "beat 0"):
            wait_until(lambda name=name: "Connection refused" in stack.log(name), lambda name=name: stack.log(name))
        broker.repair()
        wait_until(lambda: "Connected to redis" in stack.log("worker 0"), lambda: stack.log("worker 0"))
        for name in ("worker 0", "beat 0"):
            assert "Traceback" not in stack.log(name)
            assert str(make_url(broker_url).password) not in stack.log(name)
            assert stack.terminate(name).wait(60) == 0
