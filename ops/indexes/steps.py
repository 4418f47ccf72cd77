"""One step of a plan: its statements, locks, costs, and the statements that undo it."""

import enum
from dataclasses import dataclass
from typing import Annotated

# Read from disk and written back. Slower than most disks, so that estimates are rather too long than too short.
BYTES_PER_SECOND = 20_000_000
CONCURRENT_READS = 2  # CREATE INDEX CONCURRENTLY scans the table twice


class StepLock(enum.StrEnum):
    """The lock that a step takes, and what it means for others."""

    BUILD = "SHARE UPDATE EXCLUSIVE on the table: reads and writes continue; it waits for older transactions"
    BRIEF = "SHARE UPDATE EXCLUSIVE on the index, for a moment: reads and writes continue"
    SCAN = "SHARE UPDATE EXCLUSIVE on the table during the scan: reads and writes continue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The repair of one finding."""

    check: Annotated[str, "Name of the check."]
    reason: Annotated[str, "Message of the finding."]
    table: Annotated[str, "Name of the table, quoted for SQL."]
    index: Annotated[str, "Name of the index, quoted for SQL."]
    sql: Annotated[tuple[str, ...], "Statements of the step."]
    undo: Annotated[tuple[str, ...], "Statements that reverse the step; empty if nothing needs to be reversed."]
    lock: Annotated[StepLock, "The lock that it takes, and what that means for others."]
    table_bytes: Annotated[int, "Size of the table."]
    index_bytes: Annotated[int, "Size of the index."]
    reads_bytes: Annotated[int, "Bytes read and written, for the estimate of time."]
    disk_bytes: Annotated[int, "Disk space needed while it runs."] = 0
    tablespace: Annotated[int, "Oid of the tablespace that needs the space."] = 0
    is_parley_table: Annotated[bool, "Whether the table is one of Parley's."] = False
    is_owner: Annotated[bool, "Whether this role owns the table."] = True
    relies_on: Annotated[str | None, "Index that replaces a dropped one; null without one."] = None

    @property
    def minutes(self) -> float:
        """The estimated duration, without waiting for locks."""
        return round(self.reads_bytes / BYTES_PER_SECOND / 60, 1)

    @property
    def identity(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Equal for a step that is planned again: the problem still exists then."""
        return self.check, self.sql, self.undo

    @property
    def drops(self) -> bool:
        """Whether the index no longer exists afterwards, or its name belongs to another one."""
        return f"DROP INDEX CONCURRENTLY {self.index}" in self.sql

    @property
    def builds(self) -> bool:
        """Whether a statement builds an index."""
        return any(" CONCURRENTLY " in statement and not statement.startswith("DROP ") for statement in self.sql)
