"""Commands that install packages into `.venv`: without output, with a time limit, and with their last error line.

Uses the standard library only, because it runs before anything is installed.
"""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
LOG = VENV / "parley-bootstrap.log"
STEP_SECONDS = 1800  # time limit of one step, for slow networks
# Environment variables that would install the packages elsewhere, or add other packages to the path.
IGNORED_VARIABLES = (
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_REQUIRE_VIRTUALENV",
    "PYTHONHOME",
    "PYTHONPATH",
)


class BootstrapError(Exception):
    """A failure as one line that says what to do."""


def run(
    command: Sequence[str], what: str, advice: str = "", on_line: Callable[[str], None] = lambda line: None
) -> None:
    """Run `command` without output, and call `on_line` for each line of it.

    Raises `BootstrapError` with its error line; the full output goes to a log.
    """
    output: list[str] = []
    expired = threading.Event()
    with subprocess.Popen(  # noqa: S603  # our own list of arguments, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment(),
    ) as process:

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(STEP_SECONDS, expire)
        timer.daemon = True
        timer.start()
        try:
            for line in process.stdout or ():
                output.append(line)
                on_line(line)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    if expired.is_set():
        raise BootstrapError(f"could not {what} within {STEP_SECONDS // 60} minutes; check the network")
    if process.returncode == 0:
        return
    text = "".join(output)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no output"]
    reason = ([line for line in lines if line.startswith(("ERROR:", "error:"))] or lines)[-1]
    if re.search("NewConnectionError|NameResolutionError|ConnectTimeout|ConnectionError|ProxyError", text):
        reason += "; the package index cannot be reached, check the network"
    if VENV.is_dir():
        LOG.write_text(text)
        reason += f" (full output: {LOG})"
    raise BootstrapError(f"could not {what}: {reason}{'; ' if advice else ''}{advice}")


def succeeds(command: Sequence[str], folder: Path = ROOT) -> bool:
    """Run `command` in `folder` without output; return whether it succeeded."""
    try:
        done = subprocess.run(  # noqa: S603  # our own list of arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STEP_SECONDS,
            cwd=folder,
            env=environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def environment() -> dict[str, str]:
    """Return the environment of the steps."""
    return {name: value for name, value in os.environ.items() if name not in IGNORED_VARIABLES} | {
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
