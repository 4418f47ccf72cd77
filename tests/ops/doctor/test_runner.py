"""The contract of `flask ops doctor` and of failing commands: levels, selection, exit codes, JSON, and Ctrl-C."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import make_url

from ops.catalogue.jobs import RECORD_STATS
from ops.checks.context import CheckContext
from ops.checks.declaration import Check
from ops.checks.findings import Finding
from ops.cli import doctor as doctor_command
from ops.doctor.checks import transactions
from ops.doctor.registry import CHECKS, select_checks
from ops.errors import UnknownState
from ops.levels import Level, worst
from ops.runs.leases import exclusive_lease
from tests.faults.proxy import Proxy
from tests.ops.conftest import own_environment
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.doctor.rows import add_run
from tests.processes import reaped
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[3]
SECONDS = 60


@pytest.fixture
def url(shared_url: str) -> str:
    """Share the database, which these tests do not change."""
    return shared_url


def test_worst_level() -> None:
    assert worst([]) is Level.OK
    assert worst([Level.OK, Level.UNKNOWN]) is Level.UNKNOWN
    assert worst([Level.UNKNOWN, Level.WARNING]) is Level.WARNING
    assert worst([Level.WARNING, Level.CRITICAL, Level.UNKNOWN]) is Level.CRITICAL
    assert {level: level.exit_code for level in Level} == {
        Level.OK: 0,
        Level.WARNING: 1,
        Level.CRITICAL: 2,
        Level.UNKNOWN: 3,
    }


def is_well(context: CheckContext) -> Iterator[Finding]:
    return iter(())


def is_so_so(context: CheckContext) -> Iterator[Finding]:
    yield Finding(level=Level.WARNING, message="A thing.", evidence={"numbers": [1, 2], "span": timedelta(minutes=5)})


def is_bad(context: CheckContext) -> Iterator[Finding]:
    yield Finding(level=Level.CRITICAL, message="A bad thing.", remedy="fix it", sql="SELECT 1")


def is_half_known(context: CheckContext) -> Iterator[Finding]:
    yield Finding(level=Level.WARNING, message="Seen before it went dark.")
    raise UnknownState("It went dark.", remedy="Make light")


def is_unknown(context: CheckContext) -> Iterator[Finding]:
    raise UnknownState("Its state is unknown.")
    yield


def is_broken(context: CheckContext) -> Iterator[Finding]:
    raise ZeroDivisionError("in the check, with password=hunter2")
    yield


def is_slow(context: CheckContext) -> Iterator[Finding]:
    with context.statement_timeout(timedelta(milliseconds=50)):
        context.connection.exec_driver_sql("SELECT pg_sleep(20)")
    yield from ()


def is_writing(context: CheckContext) -> Iterator[Finding]:
    context.connection.exec_driver_sql("CREATE TABLE mischief (id int)")
    yield from ()


def checks(*names: str) -> list[Check]:
    return [Check(f"test.{name}", "What?", Level.CRITICAL, globals()[name]) for name in names]


@pytest.mark.parametrize(
    ("names", "arguments", "code"),
    [
        (("is_well",), (), 0),
        (("is_well", "is_so_so"), (), 1),
        (("is_so_so", "is_bad", "is_unknown"), (), 2),
        (("is_well", "is_unknown"), (), 3),
        (("is_half_known",), (), 1),
        (("is_so_so",), ("--fail-on", "critical"), 0),
        (("is_so_so", "is_unknown"), ("--fail-on", "critical"), 3),
        (("is_bad",), ("--fail-on", "critical"), 2),
    ],
)
def test_exit_code_is_that_of_the_worst_level(
    install: DoctorInstall,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    arguments: tuple[str, ...],
    code: int,
) -> None:
    monkeypatch.setattr(doctor_command, "select_checks", lambda *_, **__: checks(*names))
    assert install.call("doctor", *arguments).exit_code == code
    assert install.call("doctor", *arguments, "--json").exit_code == code


def test_doctor_output_as_text(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor_command, "select_checks", lambda *_, **__: checks("is_well", "is_so_so", "is_bad", "is_half_known")
    )
    lines = [line.rstrip() for line in install.call("doctor").stdout.splitlines()]
    assert lines[0].split() == ["ok", "test.is_well", "What?"]
    assert "              numbers 1, 2, span 5 min 0 s" in lines
    assert "              → fix it" in lines
    assert "              → SELECT 1" in lines
    assert "              Seen before it went dark." in lines
    assert "              It went dark." in lines
    assert "              see docs/runbooks/test-is-bad.md" in lines
    assert lines[-3:] == [
        "warning: test.is_so_so, test.is_half_known",
        "CRITICAL: test.is_bad",
        "1 ok, 2 warning, 1 critical.",
    ]


def test_shared_reason_is_printed_once(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = checks("is_unknown", "is_half_known", *["is_unknown"] * 14)
    monkeypatch.setattr(doctor_command, "select_checks", lambda *_, **__: asked)
    shown = install.call("doctor").stdout
    assert shown.count("Its state is unknown.") == 1
    assert shown.count("It went dark.") == 1
    assert shown.count("unknown  test.is_unknown") == 15
    assert "and 3 more" in shown.splitlines()[-3]


def test_doctor_output_as_json(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_command, "select_checks", lambda *_, **__: checks("is_so_so", "is_half_known"))
    document = orjson.loads(install.call("doctor", "--json").stdout)
    assert {name: document[name] for name in ("schema", "command", "level")} == {
        "schema": "parley.ops/2",
        "command": "doctor",
        "level": "warning",
    }
    first, second = document["report"]["results"]
    assert set(first) == {
        "check", "question", "level", "findings", "reason", "remedy", "runbook", "milliseconds",
    }  # fmt: skip
    assert first["findings"] == [
        {
            "level": "warning",
            "message": "A thing.",
            "object": "",
            "evidence": {"numbers": [1, 2], "span": 300.0},
            "remedy": None,
            "sql": None,
            "acknowledgement": None,
        }
    ]
    assert (second["level"], second["reason"], second["remedy"]) == ("warning", "It went dark.", "Make light")


def test_failing_check_does_not_stop_the_others(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor_command, "select_checks", lambda *_, **__: checks("is_broken", "is_slow", "is_writing", "is_well")
    )
    results = orjson.loads(install.call("doctor", "--json").stdout)["report"]["results"]
    assert [result["level"] for result in results] == ["unknown", "unknown", "unknown", "ok"]
    assert "ZeroDivisionError" in results[0]["reason"]
    assert "hunter2" not in results[0]["reason"]
    assert "took longer than" in results[1]["reason"]
    assert "read-only" in results[2]["reason"]


def test_missing_privilege_is_unknown(
    install: DoctorInstall, make_install: Callable[..., DoctorInstall], role: str
) -> None:
    url = make_url(install.url).set(username=role, password=role).render_as_string(hide_password=False)
    result = make_install(database={"url": url}).run_check("beat.alive")
    assert result.level is Level.UNKNOWN
    assert "privilege is missing" in str(result.reason)


def test_checks_are_selected_by_id_and_group(install: DoctorInstall) -> None:
    listed = {listed["check"] for listed in orjson.loads(install.call("doctor", "--list", "--json").stdout)["report"]}
    assert listed == {check.id for check in CHECKS}
    chosen = orjson.loads(install.call("doctor", "--only", "pool,beat.alive", "--json").stdout)["report"]["results"]
    assert [result["check"] for result in chosen] == ["pool.bounds", "pool.in_use", "beat.alive"]
    thorough = [check.id for check in CHECKS if check.thorough]
    assert thorough
    assert not {check.id for check in select_checks()} & set(thorough)
    assert [check.id for check in select_checks(thorough[:1])] == thorough[:1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "--only", "nonsense"),
        ("doctor", "--nonsense"),
        ("nonsense",),
        ("jobs", "run", "nonsense"),
        ("slow", "--since", "a while"),
        ("slow", "--since", "0h"),
        ("growth", "--weeks", "x"),
        ("routine", "yearly"),
        ("jobs", "show", "01a20574-80ed-7095-b5e2-65f2132f039a"),
    ],
)
def test_usage_error_is_64(install: DoctorInstall, arguments: tuple[str, ...]) -> None:
    result = install.call(*arguments)
    assert result.exit_code == 64
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("locks",),
        ("locks", "--end", "1", "--yes"),
        ("psql",),
        ("pool",),
        ("slow",),
        ("growth",),
        ("sizes",),
        ("jobs", "list"),
        ("jobs", "history"),
    ],
)
def test_unreachable_database_is_3(
    make_install: Callable[..., DoctorInstall], url: str, command: tuple[str, ...]
) -> None:
    to = make_url(url)
    with Proxy((str(to.host), int(to.port or 0))) as wire:
        through = to.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
        install = make_install(database={"url": through})
        wire.cut()
        result = install.call(*command)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "refused" in result.stderr


def test_held_lease_is_4(install: DoctorInstall) -> None:
    with install.flask_app.app_context(), exclusive_lease(f"job.{RECORD_STATS.name}", "it is held"):
        for arguments in (("jobs", "run", RECORD_STATS.name), ("jobs", "run", RECORD_STATS.name, "--json")):
            result = install.call(*arguments)
            assert result.exit_code == 4
            assert result.stdout == ""
            assert "another run of it is in progress" in result.stderr
    assert install.call("jobs", "run", RECORD_STATS.name).exit_code == 0


def test_failed_job_is_2_and_recorded(install: DoctorInstall) -> None:
    install.run("ALTER TABLE turn_events RENAME TO elsewhere")
    result = install.call("jobs", "run", "turn_events.purge")
    assert result.exit_code == 2
    assert "turn_events.purge failed" in result.stderr
    history = install.call("jobs", "history", "--job", "turn_events.purge")
    assert "failed" in history.stdout
    assert "turn_events" in history.stdout
    audit = orjson.loads(install.call("audit", "--action", "job.run", "--json").stdout)["report"]
    assert audit[0]["details"]["status"] == "failed"
    install.run("ALTER TABLE elsewhere RENAME TO turn_events")


def environment(install: DoctorInstall, home: Path) -> dict[str, str]:
    secret = install.settings.auth.jwt_secret_key
    assert secret is not None
    return own_environment(
        DATABASE_URL=install.url,
        JWT_SECRET_KEY=secret.get_secret_value(),
        PARLEY_HOME=str(home),
        TERM="xterm",
        COLUMNS="120",
    )


@pytest.mark.process
def test_ctrl_c_exits_with_130_without_traceback(install: DoctorInstall, tmp_path: Path) -> None:
    """Interrupt the command while it waits for a lock."""
    install.run("BEGIN", "LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "ops", "doctor", "--only", "migrations.current"],
        cwd=PROJECT,
        env=environment(install, tmp_path) | {"DB_STATEMENT_TIMEOUT_MS": "60000", "DB_LOCK_TIMEOUT_MS": "60000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with reaped(process):
        waiting = "SELECT 1 FROM pg_locks WHERE relation = 'alembic_version'::regclass AND NOT granted"
        wait_until(lambda: install.run(waiting))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
    install.run("ROLLBACK")
    assert (process.returncode, output) == (130, b"")
    assert errors.decode().strip() == "Interrupted."


@pytest.mark.process
@pytest.mark.parametrize(
    ("changes", "message"),
    [({"DATABASE_URL": "nonsense"}, "DATABASE_URL: must look like"), ({"DB_POOL_SIZE": "many"}, "DB_POOL_SIZE")],
)
def test_invalid_setting_is_an_error(
    install: DoctorInstall, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "ops", "doctor"],
        cwd=PROJECT,
        env=environment(install, tmp_path) | changes,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"parley: {message}")


def report_of(install: DoctorInstall, *arguments: str) -> Any:
    return orjson.loads(install.call(*arguments, "--json").stdout)["report"]


def test_doctor_on_a_healthy_installation(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every registered check returns a result, and none fails."""
    add_run(install, "beat.tick", timedelta(seconds=1))
    monkeypatch.setattr(transactions, "IDLE", timedelta(days=1))
    results = report_of(install, "doctor", "--thorough")["results"]
    assert [result["check"] for result in results] == [check.id for check in CHECKS]
    assert [result for result in results if "check itself failed" in (result["reason"] or "")] == []
    not_durable = "storage.durable"  # the tests' server is not durable either
    critical = {result["check"] for result in results if result["level"] == "critical"}
    assert critical - {not_durable} <= {"settings.secrets"}
