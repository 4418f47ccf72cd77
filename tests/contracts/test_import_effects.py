"""Importing a module of app, ops or tasks changes nothing in the process: what must be done is done at start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts import import_effects

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.process


@pytest.mark.parametrize("is_sharing_metrics", [False, True])
def test_importing_a_module_changes_nothing(is_sharing_metrics: bool, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    if is_sharing_metrics:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.contracts.import_effects"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_probe_sees_an_effect(tmp_path: Path) -> None:
    """A probe that sees nothing would pass every module."""
    module = tmp_path / "harmful" / "__init__.py"
    module.parent.mkdir()
    module.write_text(
        "import logging, os, signal, threading, warnings\n"
        "from sqlalchemy import Engine, event\n"
        "os.environ['X'] = '1'\n"
        "os.umask(0o077)\n"
        "os.chdir('/')\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "warnings.simplefilter('error')\n"
        "logging.basicConfig()\n"
        "os.register_at_fork(after_in_child=lambda: None)\n"
        "event.listen(Engine, 'begin', lambda connection: None)\n"
        "leaked = open(os.devnull)\n"
    )
    code = (
        "import sys; from pathlib import Path; from tests.contracts import import_effects as probe\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"probe.ROOT, probe.PACKAGES = Path({str(tmp_path)!r}), ('harmful',)\n"
        "probe.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["harmful"]) >= {
        "os.environ",
        "umask",
        "working directory",
        "signal handlers",
        "threads",
        "warnings filters",
        "root logger",
        "fork hooks",
        "SQLAlchemy listeners",
        "open files",
    }


def test_start_files_exist_and_are_not_imported() -> None:
    """Each of these is the entry point of a process; nothing imports it."""
    for name in import_effects.START_FILES:
        assert (ROOT / f"{name.replace('.', '/')}.py").exists(), name
    importers = [
        f"{path.relative_to(ROOT)}: {name}"
        for package in import_effects.PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in import_effects.imported_by(path)
        if name in import_effects.START_FILES
    ]
    assert importers == []
