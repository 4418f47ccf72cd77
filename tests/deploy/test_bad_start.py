"""Every process with what it needs missing or wrong, at start and later: one clear line, and health says which."""

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
from tests.deploy.stack import Stack, until
from tests.faults.proxy import Proxy
from tests.processes import reaped
from tests.web.server import WebServer

HEAD = (ROOT / "migrations" / ".current-head").read_text().strip()
NOWHERE = "postgresql://somebody:topsecret@127.0.0.1:1/parley"

WRONG = {
    "PORT": "abc",
    "DB_POOL_SIZE": "0",
    "JWT_SECRET_KEY": "topsecret",
    "CELERY_BROKER_URL": "redis://:topsecret@localhost:port/0",
    "DATABASE_URL": "postgresql://me:topsecret@localhost:port/parley",
    "LOG_LEVEL": "LOUD",
}


def passing_through(url: str, proxies: ExitStack) -> tuple[Proxy, str]:
    """A wire to the server at `url`, cut for now, and the URL of its near end."""
    far = make_url(url)
    proxy = proxies.enter_context(Proxy((str(far.host), int(far.port or 0))))
    proxy.cut()
    return proxy, far.set(port=proxy.port).render_as_string(hide_password=False)


@pytest.mark.process
def test_a_wrong_setting_is_a_line_and_the_end(tmp_path: Path) -> None:
    """In the project's folder, or one that looks like it, with a `.env` of its own."""
    for name in ("app", "ops", "tasks", "migrations", "wsgi.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in WRONG.items()))
    stack = Stack(tmp_path, NOWHERE, "redis://127.0.0.1:1/0", {})
    started = {}
    for service in ("web", "worker", "beat", "migrate"):
        environment = {k: v for k, v in stack.environment(service).items() if k not in {**WRONG, **SECRETS}}
        started[service] = subprocess.Popen(
            [*stack.services[service].command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with reaped(*started.values()):
        told = {service: process.communicate(timeout=60)[0] for service, process in started.items()}
    for service, process in started.items():
        said = told[service]
        assert process.returncode not in (0, None), service
        lines = said.splitlines()
        assert sorted(re.findall(r"^parley: ([A-Z_]+): ", said, re.MULTILINE)) == sorted(WRONG), (service, said)
        assert len(lines) == len(WRONG), (service, said)
        assert "topsecret" not in said


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"PORT=8000\nHOST='127.0.0.1\n", r"\.env, line 2: is not NAME=value, or its quotes do not match"),
        (b"a line of prose\n", r"\.env, line 1: is not NAME=value"),
        (b"AI_MODEL=caf\xe9\n", r"\.env: is not text in UTF-8"),
        (None, r"\.env: Is a directory"),
        (b"PORT=8000\n\nAI_MODLE=gpt-9\n", r"\.env, line 3: AI_MODLE is no setting; is AI_MODEL meant\?$"),
        (b"export WEB_WORKER=3\n", r"\.env, line 1: WEB_WORKER is no setting; is WEB_WORKERS meant\?$"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / ".env"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SettingsError, match=complaint):
        load_settings(path)


def test_names_of_others_and_in_other_letters_are_left_alone(tmp_path: Path) -> None:
    compose = Path("docker-compose.yml").read_text()
    theirs = sorted({*re.findall(r"\$\{([A-Z_]+)", compose), "SENTRY_DSN", "OPENAI_ORG", "PATH"} - set(NAMES))
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}=x\n" for name in theirs) + "ai_model=some\n")
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
def test_urls_that_are_unusual_but_right(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    accepted = load_settings(None).database.url
    assert accepted is not None
    make_url(accepted)


@pytest.mark.process
@pytest.mark.parametrize(
    ("url", "why"),
    [
        (NOWHERE, 'connection to server at "127.0.0.1", port 1 failed: Connection refused'),
        (f"{NOWHERE}?nonsense=1", 'invalid connection option "nonsense"'),
    ],
)
def test_a_migration_without_a_database_is_a_line(tmp_path: Path, url: str, why: str) -> None:
    done = Stack(tmp_path, url, "redis://127.0.0.1:1/0", {}).run("migrate")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: The database does not answer, so nothing was migrated: ")
    assert why in line
    assert "topsecret" not in line


@pytest.fixture
def empty_url(postgres: str, testrun_uid: str, worker_id: str) -> Iterator[str]:
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_bad_start") as url:
        yield url


@pytest.fixture
def at_revision(empty_url: str) -> Callable[[str], None]:
    """A function that makes the database say that it is at this migration."""

    def at_revision(revision: str) -> None:
        engine = create_engine(empty_url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})

    return at_revision


@pytest.mark.process
def test_a_web_server_says_what_it_waits_for(
    tmp_path: Path, empty_url: str, broker_url: str, at_revision: Callable[[str], None]
) -> None:
    with ExitStack() as stack:
        database, database_url = passing_through(empty_url, stack)
        broker, broker_near = passing_through(broker_url, stack)
        server = WebServer(tmp_path, DATABASE_URL=database_url, CELERY_BROKER_URL=broker_near, WEB_WORKERS="1")
        stack.push(server)  # it is not awaited: it never becomes healthy by itself
        until(lambda: answers(server), server.log)

        def state() -> tuple[int, dict[str, str]]:
            response = server.http.request("GET", f"{server.url}/health/ready")
            return response.status, response.json()["parts"]

        def health() -> tuple[int, str]:
            response = server.http.request("GET", f"{server.url}/health")
            return response.status, response.json()["detail"]

        # At start: neither.
        status, parts = state()
        assert status == 503
        assert "Connection refused" in parts["database"]
        assert parts["broker"] == "Does not answer; jobs wait."
        assert health() == (503, "The database does not answer (OperationalError).")

        # A database that is empty, then behind, current and ahead.
        database.mend()
        assert state()[1]["migrations"] == "The database is empty; run `flask db upgrade`."
        migrated = Stack(tmp_path / "migrate", empty_url, broker_url, {}).run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        status, parts = state()
        assert (status, parts["database"], parts["migrations"]) == (200, "ok", "ok")  # chats need no broker
        at_revision("0001")
        behind = f"The database is at migration 0001, this code at {HEAD}; run `flask db upgrade`."
        assert state()[1]["migrations"] == behind
        assert health() == (503, behind)
        at_revision("9999")
        assert "this server is older than its database: deploy the newer" in state()[1]["migrations"]
        older = Stack(tmp_path / "older", empty_url, broker_url, {}).run("migrate")
        assert older.returncode == 1
        assert older.stderr.splitlines()[-1].endswith("this code is older than its database: deploy the newer")
        assert "Traceback" not in older.stderr
        at_revision(HEAD)

        # The broker comes; then both go, later.
        broker.mend()
        assert state() == (200, dict.fromkeys(("database", "migrations", "broker"), "ok"))
        broker.cut()
        assert state() == (200, {"database": "ok", "migrations": "ok", "broker": "Does not answer; jobs wait."})
        database.cut()
        assert state()[0] == 503
        database.mend()
        assert state()[0] == 200

        assert answers(server)
        log = server.log()
        assert "Traceback" not in log
        assert str(make_url(empty_url).password) not in log
        assert str(make_url(broker_url).password) not in log


def answers(server: WebServer) -> bool:
    assert server.process.poll() is None, server.log()
    try:
        return server.http.request("GET", f"{server.url}/health/live").status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.mark.process
def test_worker_and_beat_wait_for_their_broker(database_url: str, broker_url: str, tmp_path: Path) -> None:
    with ExitStack() as proxies:
        broker, near = passing_through(broker_url, proxies)
        stack = proxies.enter_context(Stack(tmp_path, database_url, near, {"WORKER_CONCURRENCY": "1"}))
        stack.start("worker")
        stack.start("beat")
        for name in ("worker 0", "beat 0"):
            until(lambda name=name: "Connection refused" in stack.log(name), lambda name=name: stack.log(name))
        broker.mend()
        until(lambda: "Connected to redis" in stack.log("worker 0"), lambda: stack.log("worker 0"))
        for name in ("worker 0", "beat 0"):
            assert "Traceback" not in stack.log(name)
            assert str(make_url(broker_url).password) not in stack.log(name)
            assert stack.ask_to_stop(name).wait(60) == 0
