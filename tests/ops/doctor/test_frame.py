"""What `flask ops` promises whoever calls it: exit codes, JSON, plain lines without a terminal, an end by Ctrl-C."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from sqlalchemy import make_url

from ops import doctor
from ops.catalogue import CHECKS, RECORD_FIGURES
from ops.checks import transactions
from ops.checks.probe import Probe
from ops.cli import watching
from ops.cli.frame import Span, ops
from ops.cli.rendering import span
from ops.declarations import Check
from ops.findings import CannotJudge, Finding
from ops.levels import Level, worst
from ops.locks import lock_key
from ops.progress import Bar, progress, watcher
from tests.faults.proxy import Proxy
from tests.ops.conftest import own_environment
from tests.ops.doctor.conftest import Ward
from tests.ops.doctor.rows import ran
from tests.processes import reaped

PROJECT = Path(__file__).parents[3]
SECONDS = 60


@pytest.fixture
def url(shared_url: str) -> str:
    """Nothing here changes the database for good."""
    return shared_url


def test_the_worst_speaks_for_all() -> None:
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


def is_well(probe: Probe) -> Iterator[Finding]:
    return iter(())


def is_so_so(probe: Probe) -> Iterator[Finding]:
    yield Finding(level=Level.WARNING, what="A thing.", evidence={"numbers": [1, 2], "span": timedelta(minutes=5)})


def is_bad(probe: Probe) -> Iterator[Finding]:
    yield Finding(level=Level.CRITICAL, what="A bad thing.", remedy="mend it", sql="SELECT 1")


def is_a_riddle(probe: Probe) -> Iterator[Finding]:
    yield Finding(level=Level.WARNING, what="Seen before it went dark.")
    raise CannotJudge("It went dark.", remedy="Make light")


def is_beyond_it(probe: Probe) -> Iterator[Finding]:
    raise CannotJudge("Nobody knows.")
    yield


def is_broken(probe: Probe) -> Iterator[Finding]:
    raise ZeroDivisionError("in the check, with password=hunter2")
    yield


def is_slow(probe: Probe) -> Iterator[Finding]:
    with probe.patience(timedelta(milliseconds=50)):
        probe.connection.exec_driver_sql("SELECT pg_sleep(20)")
    yield from ()


def is_writing(probe: Probe) -> Iterator[Finding]:
    probe.connection.exec_driver_sql("CREATE TABLE mischief (id int)")
    yield from ()


def checks(*names: str) -> list[Check]:
    return [Check(f"test.{name}", "What?", Level.CRITICAL, f"{__name__}:{name}") for name in names]


@pytest.mark.parametrize(
    ("names", "arguments", "code"),
    [
        (("is_well",), (), 0),
        (("is_well", "is_so_so"), (), 1),
        (("is_so_so", "is_bad", "is_beyond_it"), (), 2),
        (("is_well", "is_beyond_it"), (), 3),
        (("is_a_riddle",), (), 1),
        (("is_so_so",), ("--fail-on", "critical"), 0),
        (("is_so_so", "is_beyond_it"), ("--fail-on", "critical"), 3),
        (("is_bad",), ("--fail-on", "critical"), 2),
    ],
)
def test_the_exit_code_is_the_worst_answer(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], arguments: tuple[str, ...], code: int
) -> None:
    monkeypatch.setattr(doctor, "select", lambda *_, **__: checks(*names))
    assert ward.call("doctor", *arguments).exit_code == code
    assert ward.call("doctor", *arguments, "--json").exit_code == code


def test_what_people_read(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "select", lambda *_, **__: checks("is_well", "is_so_so", "is_bad", "is_a_riddle"))
    lines = [line.rstrip() for line in ward.call("doctor").stdout.splitlines()]
    assert lines[0].split() == ["ok", "test.is_well", "What?"]
    assert "              numbers 1, 2, span 5 min 0 s" in lines
    assert "              → mend it" in lines
    assert "              → SELECT 1" in lines
    assert "              Seen before it went dark." in lines
    assert "              It went dark." in lines
    assert "              see docs/runbooks/test-is-bad.md" in lines
    assert lines[-3:] == [
        "warning: test.is_so_so, test.is_a_riddle",
        "CRITICAL: test.is_bad",
        "1 ok, 2 warning, 1 critical.",
    ]


def test_a_reason_that_many_share_is_told_once(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = checks("is_beyond_it", "is_a_riddle", *["is_beyond_it"] * 14)
    monkeypatch.setattr(doctor, "select", lambda *_, **__: asked)
    shown = ward.call("doctor").stdout
    assert shown.count("Nobody knows.") == 1
    assert shown.count("It went dark.") == 1
    assert shown.count("cannot judge  test.is_beyond_it") == 15
    assert "and 3 more" in shown.splitlines()[-3]


def test_what_programs_read(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "select", lambda *_, **__: checks("is_so_so", "is_a_riddle"))
    document = orjson.loads(ward.call("doctor", "--json").stdout)
    assert {name: document[name] for name in ("schema", "command", "level")} == {
        "schema": "parley.ops/1",
        "command": "doctor",
        "level": "warning",
    }
    first, second = document["report"]["answers"]
    assert set(first) == {
        "check", "asks", "level", "findings", "reason", "remedy", "runbook", "milliseconds",
    }  # fmt: skip
    assert first["findings"] == [
        {
            "level": "warning",
            "what": "A thing.",
            "evidence": {"numbers": [1, 2], "span": 300.0},
            "remedy": None,
            "sql": None,
        }
    ]
    assert (second["level"], second["reason"], second["remedy"]) == ("warning", "It went dark.", "Make light")


def test_a_check_that_fails_by_itself_keeps_nobody_from_answering(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "select", lambda *_, **__: checks("is_broken", "is_slow", "is_writing", "is_well"))
    answers = orjson.loads(ward.call("doctor", "--json").stdout)["report"]["answers"]
    assert [answer["level"] for answer in answers] == ["cannot judge", "cannot judge", "cannot judge", "ok"]
    assert "ZeroDivisionError" in answers[0]["reason"]
    assert "hunter2" not in answers[0]["reason"]
    assert "took longer than" in answers[1]["reason"]
    assert "read-only" in answers[2]["reason"]


def test_a_missing_privilege_is_no_judgement(ward: Ward, admit: Callable[..., Ward], role: str) -> None:
    url = make_url(ward.url).set(username=role, password=role).render_as_string(hide_password=False)
    answer = admit(database={"url": url}).ask("beat.alive")
    assert answer.level is Level.UNKNOWN
    assert "privilege is missing" in str(answer.reason)


def test_checks_are_chosen_by_id_and_by_group(ward: Ward) -> None:
    listed = {each["check"] for each in orjson.loads(ward.call("doctor", "--list", "--json").stdout)["report"]}
    assert listed == {check.id for check in CHECKS}
    chosen = orjson.loads(ward.call("doctor", "--only", "pool,beat.alive", "--json").stdout)["report"]["answers"]
    assert [answer["check"] for answer in chosen] == ["pool.bounds", "pool.in_use", "beat.alive"]
    thorough = [check.id for check in CHECKS if check.thorough]
    assert thorough
    assert not {check.id for check in doctor.select()} & set(thorough)
    assert [check.id for check in doctor.select(thorough[:1])] == thorough[:1]


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
def test_a_call_that_makes_no_sense_is_64(ward: Ward, arguments: tuple[str, ...]) -> None:
    result = ward.call(*arguments)
    assert result.exit_code == 64
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize(
    "command", [("locks",), ("pool",), ("slow",), ("growth",), ("jobs", "list"), ("jobs", "history")]
)
def test_without_a_database_a_command_cannot_judge(
    admit: Callable[..., Ward], url: str, command: tuple[str, ...]
) -> None:
    to = make_url(url)
    with Proxy((str(to.host), int(to.port or 0))) as wire:
        through = to.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
        ward = admit(database={"url": through})
        wire.cut()
        result = ward.call(*command)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "refused" in result.stderr


def test_another_run_that_holds_the_lock_is_4(ward: Ward) -> None:
    key = lock_key(RECORD_FIGURES.name)
    ward.run("SELECT pg_advisory_lock(%(key)s)", key=key)
    for arguments in (("jobs", "run", RECORD_FIGURES.name), ("jobs", "run", RECORD_FIGURES.name, "--json")):
        result = ward.call(*arguments)
        assert result.exit_code == 4
        assert result.stdout == ""
        assert "another run of it holds its lock" in result.stderr
    ward.run("SELECT pg_advisory_unlock(%(key)s)", key=key)
    assert ward.call("jobs", "run", RECORD_FIGURES.name).exit_code == 0


def test_a_job_that_fails_is_2_and_in_the_history(ward: Ward) -> None:
    ward.run("ALTER TABLE turn_events RENAME TO elsewhere")
    result = ward.call("jobs", "run", "turn_events.purge")
    assert result.exit_code == 2
    assert "turn_events.purge failed" in result.stderr
    history = ward.call("jobs", "history", "--job", "turn_events.purge")
    assert "failed" in history.stdout
    assert "turn_events" in history.stdout
    audit = orjson.loads(ward.call("audit", "--action", "job.run", "--json").stdout)["report"]
    assert audit[0]["details"]["status"] == "failed"
    ward.run("ALTER TABLE elsewhere RENAME TO turn_events")


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("90min", 5400), ("24h", 86_400), ("7d", 604_800), ("1.5h", 5400), ("4w", 2_419_200), ("30s", 30)],
)
def test_spans_as_people_write_them(words: str, seconds: float) -> None:
    assert Span().convert(words, None, None).total_seconds() == seconds


@pytest.mark.parametrize("words", ["", "h", "-1h", "24", "24 hours", "1e3h", "999999w", "0.0001s", "٣h"])
def test_spans_that_are_none(words: str) -> None:
    with pytest.raises(click.BadParameter):
        Span().convert(words, None, None)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=0.31), "0.31 s"),
        (timedelta(seconds=125), "2 min 5 s"),
        (timedelta(days=3, hours=4), "3 d 4 h"),
    ],
)
def test_spans_as_people_read_them(length: timedelta, words: str) -> None:
    assert span(length) == words


@click.command("work")
def work() -> None:
    """A long piece of work."""
    with progress("Working", total=4, unit="pieces") as bar:
        for _ in range(4):
            bar.advance(note="on and on")


@pytest.fixture
def working() -> Iterator[None]:
    """`flask ops work`, for as long as the test."""
    ops.add_command(work)
    yield
    ops.commands.pop("work")


def test_without_a_terminal_progress_is_plain_lines_beside_the_data(
    ward: Ward, working: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LINE_SECONDS", 0)
    result = ward.call("work")
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"Working: {n} of 4 pieces, on and on" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("at", ["begin", "advance", "end"])
def test_work_goes_on_when_whoever_watches_leaves(at: str) -> None:
    class Leaving:
        """Whoever reads standard error has ended."""

        def begin(self, title: str, total: float | None, unit: str) -> Bar:
            self.gone("begin")
            return self

        def advance(self, steps: float = 1, *, note: str | None = None) -> None:
            self.gone("advance")

        def end(self, bar: Bar) -> None:
            self.gone("end")

        def gone(self, now: str) -> None:
            if now == at:
                raise BrokenPipeError

    token, done = watcher.set(Leaving()), 0
    try:
        with progress("Working", total=3) as bar:
            for _ in range(3):
                bar.advance()
                done += 1
    finally:
        watcher.reset(token)
    assert done == 3


def test_what_is_quick_says_nothing(ward: Ward, working: None) -> None:
    assert ward.call("work").output == ""


def environment(ward: Ward, home: Path) -> dict[str, str]:
    secret = ward.settings.auth.jwt_secret_key
    assert secret is not None
    return own_environment(
        DATABASE_URL=ward.url,
        JWT_SECRET_KEY=secret.get_secret_value(),
        PARLEY_HOME=str(home),
        TERM="xterm",
        COLUMNS="120",
    )


@pytest.mark.process
def test_on_a_terminal_there_is_a_bar_and_in_a_pipe_there_is_none(ward: Ward, tmp_path: Path) -> None:
    call = [sys.executable, "-m", "flask", "ops", "doctor", "--only", "connection.version", "--json"]
    piped = subprocess.run(
        call, cwd=PROJECT, env=environment(ward, tmp_path), capture_output=True, timeout=SECONDS, check=False
    )
    assert (piped.returncode, piped.stderr) == (0, b"")
    main, other = pty.openpty()
    process = subprocess.Popen(call, cwd=PROJECT, env=environment(ward, tmp_path), stdout=subprocess.PIPE, stderr=other)
    os.close(other)
    with reaped(process):
        shown = drained(main)
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert orjson.loads(output)["level"] == "ok"
    assert b"Examining" in shown


@pytest.mark.process
def test_ctrl_c_ends_a_command_with_130_and_no_traceback(ward: Ward, tmp_path: Path) -> None:
    """While it waits for a lock that is not given back."""
    ward.run("BEGIN", "LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "ops", "doctor", "--only", "migrations.current"],
        cwd=PROJECT,
        env=environment(ward, tmp_path) | {"DB_STATEMENT_TIMEOUT_MS": "60000", "DB_LOCK_TIMEOUT_MS": "60000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with reaped(process):
        deadline = time.monotonic() + SECONDS
        while not ward.run("SELECT 1 FROM pg_locks WHERE relation = 'alembic_version'::regclass AND NOT granted"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
    ward.run("ROLLBACK")
    assert (process.returncode, output) == (130, b"")
    assert errors.decode().strip() == "Interrupted."


@pytest.mark.process
@pytest.mark.parametrize(
    ("changes", "told"),
    [({"DATABASE_URL": "nonsense"}, "DATABASE_URL: must look like"), ({"DB_POOL_SIZE": "many"}, "DB_POOL_SIZE")],
)
def test_a_wrong_setting_is_no_warning(ward: Ward, tmp_path: Path, changes: dict[str, str], told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "ops", "doctor"],
        cwd=PROJECT,
        env=environment(ward, tmp_path) | changes,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"parley: {told}")


def drained(descriptor: int) -> bytes:
    """What a terminal was shown, until nobody writes to it any more."""
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK)
    shown, deadline = b"", time.monotonic() + SECONDS
    with contextlib.suppress(OSError):  # EIO at the end
        while time.monotonic() < deadline:
            if select.select([descriptor], [], [], 1)[0]:
                piece = os.read(descriptor, 65_536)
                if not piece:
                    break
                shown += piece
    os.close(descriptor)
    return shown


def report_of(ward: Ward, *arguments: str) -> Any:
    return orjson.loads(ward.call(*arguments, "--json").stdout)["report"]


def test_the_whole_doctor_on_a_healthy_installation(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check of the catalogue answers, and none fails by itself."""
    ran(ward, "beat.tick", timedelta(seconds=1))
    monkeypatch.setattr(transactions, "IDLE", timedelta(days=1))
    answers = report_of(ward, "doctor", "--thorough")["answers"]
    assert [answer["check"] for answer in answers] == [check.id for check in CHECKS]
    assert [answer for answer in answers if "check itself failed" in (answer["reason"] or "")] == []
    not_durable = "storage.durable"  # nor is the tests' server
    critical = {answer["check"] for answer in answers if answer["level"] == "critical"}
    assert critical - {not_durable} <= {"settings.secrets"}
