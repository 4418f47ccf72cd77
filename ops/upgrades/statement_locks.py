"""The table locks of a migration's statements, and how long each is held.

Covers the statements that migrations usually have; others raise `UnknownStatement`. The lock modes are those of the
PostgreSQL manual, "Explicit Locking" and "ALTER TABLE".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"  # blocks reads and writes
SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"  # blocks writes
SHARE = "SHARE"  # blocks writes
SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"  # blocks other maintenance only
ROW_EXCLUSIVE = "ROW EXCLUSIVE"  # blocks writes to the same rows only
ROW_SHARE = "ROW SHARE"
ORDER = (ROW_SHARE, ROW_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE, SHARE, SHARE_ROW_EXCLUSIVE, ACCESS_EXCLUSIVE)


class LockDuration(StrEnum):
    """The time that a lock is held: a moment, or as long as the statement processes the table's rows."""

    MOMENT = "a moment"
    SCAN = "reads every row"
    BUILD = "reads every row and builds an index"
    REWRITE = "rewrites every row"
    ROWS = "changes rows"


@dataclass(frozen=True, slots=True)
class TableLock:
    """A lock on `table`, named without its schema."""

    table: str
    mode: str
    duration: LockDuration = LockDuration.MOMENT

    @property
    def blocks_writes(self) -> bool:
        """Whether other sessions cannot write to the table."""
        return ORDER.index(self.mode) >= ORDER.index(SHARE)


class UnknownStatement(Exception):
    """A statement whose locks are unknown; the message is its first words."""


_NAME = r'(?:"?\w+"?\.)?"?(?P<{0}>\w+)"?'
_ON = _NAME.format("table")
_REFERENCES = re.compile(r"\bREFERENCES\s+" + _NAME.format("table"), re.I)
_NOTHING = re.compile(
    r"(BEGIN|COMMIT|SET|RESET|SELECT|SHOW|CREATE\s+(EXTENSION|TYPE|SCHEMA|SEQUENCE|DOMAIN|(OR\s+REPLACE\s+)?(FUNCTION|VIEW))"
    r"|DROP\s+(EXTENSION|TYPE|SCHEMA|SEQUENCE|DOMAIN|FUNCTION|VIEW)|GRANT|REVOKE|ANALYZE)\b",
    re.I,
)


def statement_locks(statement: str) -> list[TableLock]:
    """Return the locks of one statement on tables that it does not create itself. Raises `UnknownStatement`."""
    text = " ".join(re.sub(r"--[^\n]*|/\*.*?\*/", " ", statement, flags=re.S).split())
    for pattern, locks_of in _STATEMENTS:
        if match := re.match(pattern, text, re.I):
            return list(locks_of(match, text))
    if not text or _NOTHING.match(text):
        return []
    raise UnknownStatement(" ".join(text.split()[:4]))


def _create_table(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    """Yield the locks on the tables that foreign keys of the new table reference: each gets a trigger."""
    for name in dict.fromkeys(reference["table"] for reference in _REFERENCES.finditer(text)):
        if name != match["table"]:
            yield TableLock(name, SHARE_ROW_EXCLUSIVE)


def _create_index(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    yield TableLock(match["table"], SHARE_UPDATE_EXCLUSIVE if match["concurrently"] else SHARE, LockDuration.BUILD)


def _drop_index(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    """Yield the lock on the index's table, which only the database can name, as `index:NAME`."""
    mode = SHARE_UPDATE_EXCLUSIVE if match["concurrently"] else ACCESS_EXCLUSIVE
    yield TableLock(f"index:{match['table']}", mode)


def _rename_index(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    """Yield nothing: a rename locks the index and not its table."""
    yield from ()


def _exclusive(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    yield TableLock(match["table"], ACCESS_EXCLUSIVE)


def _trigger(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    yield TableLock(match["table"], SHARE_ROW_EXCLUSIVE)


def _rows(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    yield TableLock(match["table"], ROW_EXCLUSIVE, LockDuration.ROWS)


def _comment(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    yield TableLock(match["table"], SHARE_UPDATE_EXCLUSIVE)


def _reindex(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    yield TableLock(match["table"], SHARE_UPDATE_EXCLUSIVE if match["concurrently"] else SHARE, LockDuration.BUILD)


def _alter_table(match: "re.Match[str]", text: str) -> Iterator[TableLock]:
    table, action = match["table"], match["action"]
    referenced = _REFERENCES.search(action)
    if re.match(r"ADD (CONSTRAINT \S+ )?FOREIGN KEY", action, re.I) and referenced:
        duration = LockDuration.MOMENT if re.search(r"\bNOT VALID\b", action, re.I) else LockDuration.SCAN
        yield TableLock(table, SHARE_ROW_EXCLUSIVE, duration)
        yield TableLock(referenced["table"], SHARE_ROW_EXCLUSIVE)
        return
    if re.match(r"VALIDATE CONSTRAINT", action, re.I):
        yield TableLock(table, SHARE_UPDATE_EXCLUSIVE, LockDuration.SCAN)
        return
    if re.match(r"ALTER (COLUMN )?\S+ SET (STATISTICS|\()|SET \(|RESET \(|CLUSTER ON", action, re.I):
        yield TableLock(table, SHARE_UPDATE_EXCLUSIVE)
        return
    yield TableLock(table, ACCESS_EXCLUSIVE, _duration(action))
    if referenced:
        yield TableLock(referenced["table"], SHARE_ROW_EXCLUSIVE)


def _duration(action: str) -> LockDuration:
    """Return how long an ALTER TABLE under ACCESS EXCLUSIVE takes, as far as its text shows that."""
    if re.match(r"ALTER (COLUMN )?\S+ (SET DATA )?TYPE\b|SET (LOGGED|UNLOGGED|ACCESS METHOD)", action, re.I):
        return LockDuration.REWRITE  # a longer varchar does not rewrite, but the report is rather too strict
    if re.match(r"ADD (COLUMN )?", action, re.I) and re.search(
        r"\b(GENERATED (ALWAYS|BY DEFAULT)|(BIG)?SERIAL)\b|DEFAULT (gen_random_uuid|random|clock_timestamp|nextval)",
        action,
        re.I,
    ):
        return LockDuration.REWRITE
    if re.match(r"ADD (CONSTRAINT \S+ )?(UNIQUE|PRIMARY KEY)", action, re.I):
        return LockDuration.MOMENT if re.search(r"USING INDEX", action, re.I) else LockDuration.BUILD
    if re.match(r"ADD (CONSTRAINT \S+ )?(CHECK|EXCLUDE)", action, re.I):
        return LockDuration.MOMENT if re.search(r"\bNOT VALID\b", action, re.I) else LockDuration.SCAN
    if re.match(r"ALTER (COLUMN )?\S+ SET NOT NULL", action, re.I):
        return LockDuration.SCAN
    return LockDuration.MOMENT


_CONCURRENTLY = r"(?P<concurrently>CONCURRENTLY )?"
_IF_EXISTS = r"(?:IF (?:NOT )?EXISTS )?"
_STATEMENTS = (
    (rf"CREATE (?:UNLOGGED )?TABLE {_IF_EXISTS}{_ON}", _create_table),
    (rf"CREATE (?:UNIQUE )?INDEX {_CONCURRENTLY}{_IF_EXISTS}\S+ ON (?:ONLY )?{_ON}", _create_index),
    (rf"DROP INDEX {_CONCURRENTLY}{_IF_EXISTS}{_ON}", _drop_index),
    (rf"ALTER INDEX {_IF_EXISTS}{_ON} RENAME TO ", _rename_index),
    (rf"REINDEX (?:\([^)]*\) )?TABLE {_CONCURRENTLY}{_ON}", _reindex),
    (rf"DROP TRIGGER (?:IF EXISTS )?\S+ ON {_ON}", _exclusive),
    (rf"(?:DROP TABLE {_IF_EXISTS}|TRUNCATE (?:TABLE )?){_ON}", _exclusive),
    (rf"ALTER TABLE {_IF_EXISTS}(?:ONLY )?{_ON} (?P<action>.+)", _alter_table),
    (rf"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER \S+ .*? ON {_ON}", _trigger),
    (rf"(?:INSERT INTO|UPDATE(?: ONLY)?|DELETE FROM(?: ONLY)?) {_ON}", _rows),
    (rf"COMMENT ON TABLE {_ON}", _comment),
    (r"COMMENT ON COLUMN (?:\"?\w+\"?\.)??\"?(?P<table>\w+)\"?\.\"?\w+\"? IS", _comment),
)
