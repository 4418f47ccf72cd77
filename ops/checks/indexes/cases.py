"""What an index check finds: the finding, and the step of a plan that would mend it, where one may be planned."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ops.checks.indexes.reading import Index
from ops.checks.indexes.steps import CONCURRENT_READS, Lock, Step
from ops.findings import Finding
from ops.levels import Level

PLAN = "flask ops index plan, read the file, flask ops index apply"
PLAN_ALL = "flask ops index plan --all-tables, read the file, flask ops index apply"
BY_HAND = "It is an index of a partitioned table: dropping it blocks reads and writes, so choose the moment by hand."


@dataclass(frozen=True, slots=True)
class Case:
    """`step` is None where only a person can decide."""

    finding: Finding
    step: Step | None = None


def case(
    level: Level, what: str, evidence: dict[str, Any], *, step: Step | None = None, sql: str | None = None, remedy: str
) -> Case:
    """A case whose statement is the step's; `sql` is one that a person has to decide on."""
    if step is not None:
        step, sql = replace(step, why=what), ";\n".join(step.sql) + ";"
        if not step.owned:  # then no plan has it
            remedy = remedy.replace(PLAN, f"As the owner of {step.table}, or a superuser: the statement")
        elif not step.ours:
            remedy = remedy.replace(PLAN, PLAN_ALL)
    return Case(Finding(level=level, what=what, evidence=evidence, remedy=remedy, sql=sql), step)


def findings(cases: Iterator[Case]) -> Iterator[Finding]:
    """What a check is to yield."""
    return (each.finding for each in cases)


def build(check: str, index: Index, sql: tuple[str, ...], undo: tuple[str, ...]) -> Step:
    """A step that builds an index like `index` beside what is written meanwhile."""
    return Step(
        check=check,
        why="",
        table=index.sql_table,
        index=index.sql_name,
        sql=sql,
        undo=undo,
        lock=Lock.BUILD,
        table_bytes=index.table_bytes,
        index_bytes=index.bytes,
        reads_bytes=CONCURRENT_READS * index.table_bytes + index.bytes,
        disk_bytes=index.bytes,
        tablespace=index.tablespace,
        ours=index.is_ours,
        owned=index.is_owned,
    )


def rebuild(check: str, index: Index) -> Step | None:
    """Builds it anew and swaps it in; None where PostgreSQL cannot. Nothing needs to be taken back afterwards."""
    return build(check, index, (index.rebuild,), ()) if index.rebuild else None


def drop(check: str, index: Index, *, relies_on: Index | None = None) -> Step | None:
    """Drops it; the undo is its definition. `relies_on` does its work from then on.

    None for the index of a partitioned table: dropping that blocks reads and writes.
    """
    if index.is_partitioned:
        return None
    sql = f"DROP INDEX CONCURRENTLY {index.sql_name}"
    return replace(
        build(check, index, (sql,), (index.definition_concurrently,)),
        reads_bytes=0,
        disk_bytes=0,
        relies_on=relies_on.sql_name if relies_on else None,
    )
