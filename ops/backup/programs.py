"""pg_dump and pg_restore that fit the server.

pg_dump refuses a server newer than itself. A newer one reads an older server, but what it writes cannot be restored
there where that is older than 17: its pg_restore sets transaction_timeout, which such a server does not know, and the
server's own pg_restore does not read the newer kind of archive (both were tried). So the server's own version is looked
for first, and a newer one is taken only where the server is at least 17.
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
from ops.embedded.binaries import CHOSEN, ELSEWHERE, POSTGRES_WHEEL, wheel_folder
from ops.embedded.server import plain_environment

NEWER_ONES_FROM = 17
_SECONDS = 60
_CLIENTS = (*ELSEWHERE, "/usr/local/pgsql/bin", "/opt/homebrew/opt/libpq/bin")


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder that holds both, of that version, such as 18.1."""

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
    """The programs for the server of `target`; to restore, also able to read what a pg_dump `written_by` wrote.

    `chosen` is BACKUP_POSTGRES_BIN, then the only folder looked at. Raises `ProgramsMissing`, which says what was found
    and what to install.
    """
    seen: dict[str, str] = {}
    fitting = []
    for folder in _folders(chosen):
        found = _asked(folder)
        if found is None:
            continue
        if complaint := _complaint(found, target, written_by):
            seen[str(folder)] = complaint
        elif found.major == target.version:
            return found
        else:
            fitting.append(found)
    if fitting:
        return min(fitting, key=lambda programs: programs.major)  # none is older than the server
    wanted = max(target.version, written_by)
    raise ProgramsMissing(
        f"No pg_dump and pg_restore of PostgreSQL {wanted} that fit this server "
        f"({'; '.join(f'{folder}: {complaint}' for folder, complaint in seen.items()) or 'none were found'}): "
        f"install the package postgresql-client-{wanted}, or name the folder of such programs in BACKUP_POSTGRES_BIN"
    )


def _complaint(found: Programs, target: Target, written_by: int) -> str | None:
    """Why they will not do."""
    if found.major < target.version:
        return f"{found.version} is older than the server ({target.version}), which it refuses"
    if found.major < written_by:
        return f"{found.version} cannot read what pg_dump {written_by} wrote"
    if found.major > target.version and target.version < NEWER_ONES_FROM:
        return f"what {found.version} writes or restores, a server of version {target.version} does not understand"
    if target.encrypted and not _speaks_tls(found):
        return f"{found.version} was built without TLS, which this connection uses"
    return None


def _folders(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        yield chosen
        return
    if tests := os.environ.get(CHOSEN):
        yield Path(tests)
    if (wheel := wheel_folder(POSTGRES_WHEEL)) is not None:
        yield wheel / "pginstall" / "bin"
    for pattern in _CLIENTS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))
    if on_path := shutil.which("pg_dump"):  # Debian's is a script that chooses by itself: last
        yield Path(on_path).parent


def _asked(folder: Path) -> Programs | None:
    """Which version they are; None where they are not both there or do not run."""
    if not (folder / "pg_restore").exists():
        return None
    done = _run([str(folder / "pg_dump"), "--version"], {})
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", done.stdout) if done else None
    return Programs(folder, found[1]) if found else None


def _speaks_tls(found: Programs) -> bool:
    """What was built without TLS refuses to be told to use it, before it connects to anything."""
    done = _run([found.pg_dump, "--dbname=host=/nonexistent sslmode=require"], {})
    return done is not None and "SSL support is not compiled in" not in done.stderr


def _run(command: list[str], more: dict[str, str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(  # noqa: S603  # our own list of arguments, no shell
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            env=plain_environment() | more,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
