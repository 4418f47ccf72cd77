"""Steps of a first start, on a terminal and elsewhere."""

import io
import os
import pty
from contextlib import suppress

import pytest

from ops.up import steps
from ops.up.steps import step
from tests.waiting import wait_until


def test_step_without_terminal_is_a_line_at_start_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SHORT_SECONDS", 0)
    output = io.StringIO()
    with step("Migrating", output):
        assert output.getvalue() == "Migrating ...\n"
    assert output.getvalue() == "Migrating ...\nMigrating: done after 0 s\n"


def test_long_step_without_terminal_reports_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "REPORT_SECONDS", 0.01)
    output = io.StringIO()
    with step("Installing", output) as running:
        running.show_size(8, "packages", lambda: 4)
        wait_until(lambda: "Installing [########........] 4 of 8 packages, 0 s\n" in output.getvalue())


def test_step_on_terminal_rewrites_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "REDRAW_SECONDS", 0.01)
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal, os.fdopen(reader, "rb", buffering=0) as screen:
        with step("Installing", terminal) as running:
            running.show_size(4, "packages", lambda: 9)  # more than expected is shown as all
            shown = b""
            while b"[################] 4 of 4 packages, 0 s" not in shown:
                shown += screen.read(1000)
        while not shown.endswith(b"\x1b[KInstalling: 0 s\r\n"):
            shown += screen.read(1000)
    assert b"\n" not in shown.removesuffix(b"\n")


def test_failed_step_leaves_the_last_line_to_the_error() -> None:
    output = io.StringIO()
    with pytest.raises(ValueError, match="reason"), step("Migrating", output):
        raise ValueError("reason")
    assert output.getvalue() == "Migrating ...\n"


def test_closed_stream_does_not_end_the_step() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = os.fdopen(writer, "w")
    with step("Migrating", output):
        pass
    with suppress(BrokenPipeError):
        output.close()  # writes what is left in its buffer
