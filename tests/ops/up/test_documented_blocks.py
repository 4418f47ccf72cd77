"""The shell blocks of README.md and docs/clients.md, pasted twice while `make up` runs, and the output shown there."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.embedded import ports
from tests.ops.conftest import PROJECT, SECONDS, own_environment
from tests.ops.up.conftest import Up

MARK = "--- end of block ---"
README = PROJECT / "README.md"
CLIENTS = PROJECT / "docs" / "clients.md"
# A shell block, and the block after it with its output, if any.
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:```(?:json|text|http)\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
DOCTOR = re.compile(r"^\$ \.venv/bin/flask ops doctor\n(.*?)^unknown: ", re.MULTILINE | re.DOTALL)
IDENTIFIER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{32}\b")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the shell blocks of a page, each with its documented output."""
    found = [(match[1], match[2] or "") for match in BLOCK.finditer(page.read_text())]
    assert len(found) > 6
    return found


def paste(page: Path, port: str) -> list[str]:
    """Run the blocks of a page in one shell that stops at the first error; return the output of each."""
    script = "".join(f"{shell}printf '\\n{MARK}\\n'\n" for shell, _ in blocks(page))
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script.replace("127.0.0.1:8000", f"127.0.0.1:{port}")],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=own_environment(),
    )
    outputs = done.stdout.split(f"\n{MARK}\n")
    assert (done.returncode, done.stderr, len(outputs)) == (0, "", len(blocks(page)) + 1), done
    return outputs[:-1]


def missing(documented: str, output: str) -> str:
    """Return the first part of a documented output that the real one does not have in this order; empty if none.

    Parts are separated by `...` and by the ends of lines. Ids have other values.
    """
    rest = re.sub(r"\s", "", IDENTIFIER.sub("ID", output))
    for part in re.split(r"\.\.\.|\n", documented):
        wanted = re.sub(r"\s", "", part.replace("01a204d5", "ID"))
        before, found, rest = rest.partition(wanted) if wanted else ("", "", rest)
        if wanted and not found:
            return f"{part!r} in {before!r}"
    return ""


@pytest.mark.process
@pytest.mark.timeout(400)
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="the blocks need curl and bash")
def test_pasted_blocks_run_twice_with_documented_output(up: Callable[..., Up]) -> None:
    port = str(ports.choose_port(0))
    running = up(PORT=port)
    running.wait_until_ready()
    documented = [output for _, output in blocks(README)]
    assert len(list(filter(None, documented))) > 5
    first = paste(README, port)
    assert list(filter(None, map(missing, documented, first))) == []
    second = paste(README, port)
    assert '"code":"email_taken"' in second[0]
    assert list(filter(None, map(missing, documented[1:], second[1:]))) == []
    for outputs in (paste(CLIENTS, port), paste(CLIENTS, port)):
        assert "event: turn.completed" in outputs[2]
        assert outputs[3].endswith("204\n")

    doctor = subprocess.run(
        [PROJECT / ".venv" / "bin" / "flask", "ops", "doctor"],
        cwd=PROJECT,
        env=own_environment(PARLEY_HOME=str(running.home)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    ).stdout
    [shown] = DOCTOR.findall(README.read_text())
    assert missing(shown, doctor) == ""


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) < 200
