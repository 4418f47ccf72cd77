"""One step of a plan: statements, what they lock, what they read and need, and what takes them back."""

import enum
from dataclasses import dataclass

# Read from disk and written back, slower than most disks: an estimate that is too long surprises nobody.
BYTES_PER_SECOND = 20_000_000
CONCURRENT_READS = 2  # a build beside writes reads its table twice


class Lock(enum.StrEnum):
    """What a step locks, in PostgreSQL's words and in ours."""

    BUILD = "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on; it waits for transactions that are older"
    BRIEF = "SHARE UPDATE EXCLUSIVE on the index, for a moment: reads and writes go on"
    SCAN = "SHARE UPDATE EXCLUSIVE on the table while it is read: reads and writes go on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What mends one finding of `check`. `table` and `index` are names as SQL takes them.

    `undo` is what takes it back, empty where nothing needs to be. `disk_bytes` is what it takes while it runs, in
    `tablespace` (its oid). `reads_bytes` is what it reads and writes, for the estimate. An index that is dropped
    because another one does its work `relies_on` that. `ours`: its table is one of Parley's models.
    """

    check: str
    why: str
    table: str
    index: str
    sql: tuple[str, ...]
    undo: tuple[str, ...]
    lock: Lock
    table_bytes: int
    index_bytes: int
    reads_bytes: int
    disk_bytes: int = 0
    tablespace: int = 0
    ours: bool = False
    owned: bool = True
    relies_on: str | None = None

    @property
    def minutes(self) -> float:
        """How long it may take, waiting not counted."""
        return round(self.reads_bytes / BYTES_PER_SECOND / 60, 1)

    @property
    def identity(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """The same for a step that was planned again: then what it mends is still so."""
        return self.check, self.sql, self.undo

    @property
    def drops(self) -> bool:
        """Whether its index is gone afterwards, or another one has its name."""
        return f"DROP INDEX CONCURRENTLY {self.index}" in self.sql

    @property
    def builds(self) -> bool:
        return any(" CONCURRENTLY " in statement and not statement.startswith("DROP ") for statement in self.sql)
