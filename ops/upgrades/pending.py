"""The revisions that a database has still to go through, and the SQL that each would send. Nothing of it is run."""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import alembic.command
from alembic.config import Config
from alembic.script import ScriptDirectory
from flask import current_app

from ops.upgrades.locks import Lock, UnknownStatement, locks

_COMMENT = re.compile(r"^--[^\n]*", re.M)
_STATEMENT = re.compile(r"(?:[^;'$]|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|\$)+", re.S)

FOLDER = str(Path(__file__).parents[2] / "migrations")


@dataclass(frozen=True, slots=True)
class Revision:
    """One step that is to be done, and what it `does` in a few words. `locks` are those on tables that it has not made
    itself, in its order; `unknown` says what could not be read.
    """

    id: str
    does: str
    locks: tuple[Lock, ...]
    unknown: tuple[str, ...] = ()


def configuration() -> Config:
    """Alembic's own, as `flask db` uses it."""
    found: Config = current_app.extensions["migrate"].migrate.get_config(FOLDER)
    return found


def known_revisions() -> list[str]:
    """All revisions of this code, the oldest first."""
    script = ScriptDirectory.from_config(configuration())
    return [revision.revision for revision in reversed(list(script.walk_revisions()))]


def pending(current: str | None) -> list[Revision]:
    """What `flask db upgrade` would do from `current`, None being an empty database."""
    script = ScriptDirectory.from_config(configuration())
    steps = list(script.iterate_revisions("heads", current or "base"))
    found, made = [], set[str]()
    for revision in reversed(steps):
        before = revision.down_revision if isinstance(revision.down_revision, str) else None
        does = (revision.doc or "no description").partition(" Locks: ")[0].splitlines()[0].rstrip(".")
        found.append(_read(revision.revision, before, does, made))
    return found


def _read(revision: str, before: str | None, does: str, made: set[str]) -> Revision:
    wanted, unknown = list[Lock](), list[str]()
    try:
        for statement in statements(offline_sql(before, revision)):
            made.update(re.findall(r"\ACREATE (?:UNLOGGED )?TABLE (?:\w+\.)?\"?(\w+)", statement, re.I))
            try:
                wanted += [lock for lock in locks(statement) if lock.table not in made and lock not in wanted]
            except UnknownStatement as error:
                unknown.append(str(error))
    except Exception as error:  # whatever a migration of somebody's own does without a database
        unknown.append(f"it writes no SQL without a database ({type(error).__name__})")
    ours = [lock for lock in wanted if lock.table != "alembic_version"]
    return Revision(revision, does, tuple(ours), tuple(dict.fromkeys(unknown)))


@contextmanager
def quietly() -> Iterator[None]:
    """Alembic logs each step as if it were taken."""
    log = logging.getLogger("alembic")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def offline_sql(before: str | None, revision: str) -> str:
    """What `flask db upgrade BEFORE:REVISION --sql` prints."""
    config, written = configuration(), io.StringIO()
    config.output_buffer = written
    with quietly(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        alembic.command.upgrade(config, f"{before or 'base'}:{revision}", sql=True)
    return written.getvalue()


def statements(sql: str) -> Iterator[str]:
    """The statements of a script, without comments. A semicolon ends one, unless it is quoted."""
    for found in _STATEMENT.finditer(_COMMENT.sub("", sql)):
        if text := " ".join(found[0].split()):
            yield text
