"""The program `flask` with a `.env` that is not UTF-8 text."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.conftest import PROJECT

RUN = "from ops.cli.flask_command import main; main()"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("PORT=8000\n".encode("utf-16"), "is not UTF-8 text; save it again as UTF-8"),
        ("PORT=8000\n".encode("utf-16-le"), "contains NUL characters, which UTF-16 has; save it again as UTF-8"),
        ("PORT=8000\n".encode("utf-32"), "is not UTF-8 text; save it again as UTF-8"),
        (b"AI_MODEL=caf\xe9\n", "is not UTF-8 text; save it again as UTF-8"),
        (b"\x80\x81\xfe\xff", "is not UTF-8 text; save it again as UTF-8"),
    ],
)
@pytest.mark.parametrize("arguments", [("ops", "--help"), ("chat", "--help"), ("db", "current")])
def test_undecodable_dotenv_file_is_one_line(
    tmp_path: Path, content: bytes, complaint: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / ".env").write_bytes(content)
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"parley: .env: {complaint}\n")


def test_utf8_dotenv_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("\ufeffAI_MODEL=größe\n".encode())
    done = run(tmp_path, "ops", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "doctor" in done.stdout
