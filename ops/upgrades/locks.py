"""What a statement of a migration locks, and for how long that matters.

Only the statements that migrations consist of are known here; of any other it is said that it is not known. The lock
levels are those of the PostgreSQL manual, "Explicit Locking", and of ALTER TABLE's own page.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"  # nobody reads or writes
SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"  # nobody writes
SHARE = "SHARE"  # nobody writes
SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"  # everybody reads and writes; no other maintenance
ROW_EXCLUSIVE = "ROW EXCLUSIVE"  # everybody reads and writes, but for the rows themselves
ROW_SHARE = "ROW SHARE"
ORDER = (ROW_SHARE, ROW_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE, SHARE, SHARE_ROW_EXCLUSIVE, ACCESS_EXCLUSIVE)


class Work(StrEnum):
    """For how long a lock is held: a moment, or for as long as it takes to go through the table."""

    MOMENT = "a moment"
    SCAN = "reads every row"
    BUILD = "reads every row and builds an index"
    REWRITE = "writes every row anew"
    ROWS = "changes rows"


@dataclass(frozen=True, slots=True)
class Lock:
    """`table` without its schema, locked in `mode`, while `work` is done to it."""

    table: str
    mode: str
    work: Work = Work.MOMENT

    @property
    def stops_writes(self) -> bool:
        return ORDER.index(self.mode) >= ORDER.index(SHARE)


class UnknownStatement(Exception):
    """A statement of which it is not known what it locks; its first words."""


_NAME = r'(?:"?\w+"?\.)?"?(?P<{0}>\w+)"?'
_ON = _NAME.format("table")
_REFERENCES = re.compile(r"\bREFERENCES\s+" + _NAME.format("table"), re.I)
_NOTHING = re.compile(
    r"(BEGIN|COMMIT|SET|RESET|SELECT|SHOW|CREATE\s+(EXTENSION|TYPE|SCHEMA|SEQUENCE|DOMAIN|(OR\s+REPLACE\s+)?(FUNCTION|VIEW))"
    r"|DROP\s+(EXTENSION|TYPE|SCHEMA|SEQUENCE|DOMAIN|FUNCTION|VIEW)|GRANT|REVOKE|ANALYZE)\b",
    re.I,
)


def locks(statement: str) -> list[Lock]:
    """What one statement locks, of tables that it does not make itself. Raises `UnknownStatement`."""
    text = " ".join(re.sub(r"--[^\n]*|/\*.*?\*/", " ", statement, flags=re.S).split())
    for pattern, reading in _STATEMENTS:
        if found := re.match(pattern, text, re.I):
            return list(reading(found, text))
    if not text or _NOTHING.match(text):
        return []
    raise UnknownStatement(" ".join(text.split()[:4]))


def _create_table(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    """A foreign key of the new table sets a trigger on the one it refers to."""
    for name in dict.fromkeys(match["table"] for match in _REFERENCES.finditer(text)):
        if name != found["table"]:
            yield Lock(name, SHARE_ROW_EXCLUSIVE)


def _create_index(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    yield Lock(found["table"], SHARE_UPDATE_EXCLUSIVE if found["concurrently"] else SHARE, Work.BUILD)


def _drop_index(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    """Whose index it is, only the database knows: the name stands in the table's place, as `index:NAME`."""
    mode = SHARE_UPDATE_EXCLUSIVE if found["concurrently"] else ACCESS_EXCLUSIVE
    yield Lock(f"index:{found['table']}", mode)


def _exclusive(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    yield Lock(found["table"], ACCESS_EXCLUSIVE)


def _trigger(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    yield Lock(found["table"], SHARE_ROW_EXCLUSIVE)


def _rows(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    yield Lock(found["table"], ROW_EXCLUSIVE, Work.ROWS)


def _comment(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    yield Lock(found["table"], SHARE_UPDATE_EXCLUSIVE)


def _reindex(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    yield Lock(found["table"], SHARE_UPDATE_EXCLUSIVE if found["concurrently"] else SHARE, Work.BUILD)


def _alter_table(found: "re.Match[str]", text: str) -> Iterator[Lock]:
    table, action = found["table"], found["action"]
    referenced = _REFERENCES.search(action)
    if re.match(r"ADD (CONSTRAINT \S+ )?FOREIGN KEY", action, re.I) and referenced:
        work = Work.MOMENT if re.search(r"\bNOT VALID\b", action, re.I) else Work.SCAN
        yield Lock(table, SHARE_ROW_EXCLUSIVE, work)
        yield Lock(referenced["table"], SHARE_ROW_EXCLUSIVE)
        return
    if re.match(r"VALIDATE CONSTRAINT", action, re.I):
        yield Lock(table, SHARE_UPDATE_EXCLUSIVE, Work.SCAN)
        return
    if re.match(r"ALTER (COLUMN )?\S+ SET (STATISTICS|\()|SET \(|RESET \(|CLUSTER ON", action, re.I):
        yield Lock(table, SHARE_UPDATE_EXCLUSIVE)
        return
    yield Lock(table, ACCESS_EXCLUSIVE, _work(action))
    if referenced:
        yield Lock(referenced["table"], SHARE_ROW_EXCLUSIVE)


def _work(action: str) -> Work:
    """What an ALTER TABLE under ACCESS EXCLUSIVE does to the rows, where that can be told by its words."""
    if re.match(r"ALTER (COLUMN )?\S+ (SET DATA )?TYPE\b|SET (LOGGED|UNLOGGED|ACCESS METHOD)", action, re.I):
        return Work.REWRITE  # a longer varchar is not, but who reads this should look
    if re.match(r"ADD (COLUMN )?", action, re.I) and re.search(
        r"\b(GENERATED (ALWAYS|BY DEFAULT)|(BIG)?SERIAL)\b|DEFAULT (gen_random_uuid|random|clock_timestamp|nextval)",
        action,
        re.I,
    ):
        return Work.REWRITE
    if re.match(r"ADD (CONSTRAINT \S+ )?(UNIQUE|PRIMARY KEY)", action, re.I):
        return Work.MOMENT if re.search(r"USING INDEX", action, re.I) else Work.BUILD
    if re.match(r"ADD (CONSTRAINT \S+ )?(CHECK|EXCLUDE)", action, re.I):
        return Work.MOMENT if re.search(r"\bNOT VALID\b", action, re.I) else Work.SCAN
    if re.match(r"ALTER (COLUMN )?\S+ SET NOT NULL", action, re.I):
        return Work.SCAN
    return Work.MOMENT


_CONCURRENTLY = r"(?P<concurrently>CONCURRENTLY )?"
_IF_EXISTS = r"(?:IF (?:NOT )?EXISTS )?"
_STATEMENTS = (
    (rf"CREATE (?:UNLOGGED )?TABLE {_IF_EXISTS}{_ON}", _create_table),
    (rf"CREATE (?:UNIQUE )?INDEX {_CONCURRENTLY}{_IF_EXISTS}\S+ ON (?:ONLY )?{_ON}", _create_index),
    (rf"DROP INDEX {_CONCURRENTLY}{_IF_EXISTS}{_ON}", _drop_index),
    (rf"REINDEX (?:\([^)]*\) )?TABLE {_CONCURRENTLY}{_ON}", _reindex),
    (rf"(?:DROP TABLE {_IF_EXISTS}|TRUNCATE (?:TABLE )?){_ON}", _exclusive),
    (rf"ALTER TABLE {_IF_EXISTS}(?:ONLY )?{_ON} (?P<action>.+)", _alter_table),
    (rf"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER \S+ .*? ON {_ON}", _trigger),
    (rf"(?:INSERT INTO|UPDATE(?: ONLY)?|DELETE FROM(?: ONLY)?) {_ON}", _rows),
    (rf"COMMENT ON TABLE {_ON}", _comment),
    (r"COMMENT ON COLUMN (?:\"?\w+\"?\.)??\"?(?P<table>\w+)\"?\.\"?\w+\"? IS", _comment),
)
