"""Progress of commands: bars on a terminal, plain lines elsewhere, on standard error."""

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import orjson
import pytest
from flask import Flask

from app.config import Settings
from ops.cli import progress as cli_progress
from ops.cli.entry_points import ops
from ops.runs.progress import ProgressBar, progress, progress_shown_by
from tests.ops.conftest import own_environment
from tests.processes import reaped

PROJECT = Path(__file__).parents[3]
SECONDS = 60


@click.command("work")
def work() -> None:
    """Run a long task with progress."""
    with progress("Working", total=4, unit="pieces") as bar:
        for _ in range(4):
            bar.advance(note="on and on")


@pytest.fixture
def working() -> Iterator[None]:
    """Add the command `flask ops work` for the test."""
    ops.add_command(work)
    yield
    ops.commands.pop("work")


def test_progress_without_a_terminal_is_plain_lines_on_stderr(
    flask_app: Flask, working: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_progress, "LINE_SECONDS", 0)
    result = flask_app.test_cli_runner().invoke(ops, ["work"])
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"Working: {n} of 4 pieces, on and on" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("at", ["begin", "advance", "end"])
def test_work_continues_when_the_progress_sink_fails(at: str) -> None:
    class FailingSink:
        """A progress sink whose reader has closed standard error."""

        def begin(self, title: str, total: float | None, unit: str) -> ProgressBar:
            self.fail("begin")
            return self

        def advance(self, steps: float = 1, *, note: str | None = None) -> None:
            self.fail("advance")

        def end(self, bar: ProgressBar) -> None:
            self.fail("end")

        def fail(self, method: str) -> None:
            if method == at:
                raise BrokenPipeError

    steps = 0
    with progress_shown_by(FailingSink()), progress("Working", total=3) as bar:
        for _ in range(3):
            bar.advance()
            steps += 1
    assert steps == 3


def test_quick_work_prints_no_progress(flask_app: Flask, working: None) -> None:
    assert flask_app.test_cli_runner().invoke(ops, ["work"]).output == ""


def environment(settings: Settings, home: Path) -> dict[str, str]:
    secret = settings.auth.jwt_secret_key
    assert secret is not None
    return own_environment(
        DATABASE_URL=settings.database.url,
        JWT_SECRET_KEY=secret.get_secret_value(),
        PARLEY_HOME=str(home),
        TERM="xterm",
        COLUMNS="120",
    )


@pytest.mark.process
def test_progress_bar_only_on_a_terminal(settings: Settings, tmp_path: Path) -> None:
    call = [sys.executable, "-m", "flask", "ops", "doctor", "--only", "connection.version", "--json"]
    piped = subprocess.run(
        call, cwd=PROJECT, env=environment(settings, tmp_path), capture_output=True, timeout=SECONDS, check=False
    )
    assert (piped.returncode, piped.stderr) == (0, b"")
    main, other = pty.openpty()
    process = subprocess.Popen(
        call, cwd=PROJECT, env=environment(settings, tmp_path), stdout=subprocess.PIPE, stderr=other
    )
    os.close(other)
    with reaped(process):
        shown = terminal_output(main)
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert orjson.loads(output)["level"] == "ok"
    assert b"Checking" in shown


def terminal_output(descriptor: int) -> bytes:
    """Read a terminal's output until its writers have closed it."""
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
