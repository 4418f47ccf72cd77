"""The pending revisions of a database and the SQL of each, without running it."""

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

from ops.upgrades.statement_locks import TableLock, UnknownStatement, statement_locks

_COMMENT = re.compile(r"^--[^\n]*", re.M)
_STATEMENT = re.compile(r"(?:[^;'$]|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|\$)+", re.S)

FOLDER = str(Path(__file__).parents[2] / "migrations")


@dataclass(frozen=True, slots=True)
class Revision:
    """One pending revision.

    `locks` are those on tables that the revision does not create, in order. `unknown` are the statements that could
    not be classified.
    """

    id: str
    description: str
    locks: tuple[TableLock, ...]
    unknown: tuple[str, ...] = ()


def alembic_config() -> Config:
    """Return the configuration of Alembic, as `flask db` uses it."""
    config = Config(f"{FOLDER}/alembic.ini")
    config.set_main_option("script_location", FOLDER)
    return config


def known_revisions() -> list[str]:
    """Return all revisions of this code, the oldest first."""
    script = ScriptDirectory.from_config(alembic_config())
    return [revision.revision for revision in reversed(list(script.walk_revisions()))]


def pending_revisions(current: str | None) -> list[Revision]:
    """Return the revisions that `flask db upgrade` would apply from `current`, or to an empty database for None."""
    script = ScriptDirectory.from_config(alembic_config())
    scripts = list(script.iterate_revisions("heads", current or "base"))
    revisions, created = list[Revision](), set[str]()
    for revision in reversed(scripts):
        before = revision.down_revision if isinstance(revision.down_revision, str) else None
        description = (revision.doc or "no description").partition(" Locks: ")[0].splitlines()[0].rstrip(".")
        revisions.append(_read_revision(revision.revision, before, description, created))
    return revisions


def _read_revision(revision: str, before: str | None, description: str, created: set[str]) -> Revision:
    """Read the locks of one revision. `created` are the tables created so far, to which those of this one are added."""
    locks, unknown = list[TableLock](), list[str]()
    try:
        for statement in split_statements(offline_sql(before, revision)):
            created.update(re.findall(r"\ACREATE (?:UNLOGGED )?TABLE (?:\w+\.)?\"?(\w+)", statement, re.I))
            try:
                locks += [
                    lock for lock in statement_locks(statement) if lock.table not in created and lock not in locks
                ]
            except UnknownStatement as error:
                unknown.append(str(error))
    except Exception as error:  # a migration may run any code, and some needs a database
        unknown.append(f"it writes no SQL without a database ({type(error).__name__})")
    own = [lock for lock in locks if lock.table != "alembic_version"]
    return Revision(revision, description, tuple(own), tuple(dict.fromkeys(unknown)))


@contextmanager
def alembic_silenced() -> Iterator[None]:
    """Suppress Alembic's log messages, which report each step as if it were applied."""
    log = logging.getLogger("alembic")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def offline_sql(before: str | None, revision: str) -> str:
    """Return what `flask db upgrade BEFORE:REVISION --sql` prints."""
    config, output = alembic_config(), io.StringIO()
    config.output_buffer = output
    with alembic_silenced(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        alembic.command.upgrade(config, f"{before or 'base'}:{revision}", sql=True)
    return output.getvalue()


def split_statements(sql: str) -> Iterator[str]:
    """Yield the statements of a script without comments. A semicolon ends a statement unless it is quoted."""
    for match in _STATEMENT.finditer(_COMMENT.sub("", sql)):
        if text := " ".join(match[0].split()):
            yield text
