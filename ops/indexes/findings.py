"""Findings of the index checks, with the step that repairs each, and builders for the usual steps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ops.checks.findings import Finding
from ops.indexes.snapshot import Index
from ops.indexes.steps import CONCURRENT_READS, Step, StepLock
from ops.levels import Level

PLAN = "flask ops index plan, review the file, flask ops index apply"
PLAN_ALL = "flask ops index plan --all-tables, review the file, flask ops index apply"
BY_HAND = "It belongs to a partitioned table, so dropping it blocks reads and writes. Is there a quiet time for it?"


@dataclass(frozen=True, slots=True)
class IndexFinding:
    """A finding and its step; `step` is None where an operator has to decide."""

    finding: Finding
    step: Step | None = None


def index_finding(
    level: Level,
    message: str,
    evidence: dict[str, Any],
    *,
    step: Step | None = None,
    sql: str | None = None,
    remedy: str,
) -> IndexFinding:
    """Build a finding with the statements of `step`, or with `sql`, which an operator has to decide on."""
    if step is not None:
        step, sql = replace(step, reason=message), ";\n".join(step.sql) + ";"
        if not step.is_owner:  # no plan includes it
            remedy = remedy.replace(PLAN, f"As the owner of {step.table}, or a superuser: run the statement")
        elif not step.is_parley_table:
            remedy = remedy.replace(PLAN, PLAN_ALL)
    name = str(evidence.get("constraint") or evidence.get("index") or evidence.get("table") or "")
    return IndexFinding(
        Finding(level=level, message=message, object=name, evidence=evidence, remedy=remedy, sql=sql), step
    )


def without_steps(findings: Iterable[IndexFinding]) -> Iterator[Finding]:
    """Yield the findings alone, as a check reports them."""
    return (finding.finding for finding in findings)


def build_step(check: str, index: Index, sql: tuple[str, ...], undo: tuple[str, ...]) -> Step:
    """Return a step whose statements build an index of the size of `index` concurrently."""
    return Step(
        check=check,
        reason="",
        table=index.sql_table,
        index=index.sql_name,
        sql=sql,
        undo=undo,
        lock=StepLock.BUILD,
        table_bytes=index.table_bytes,
        index_bytes=index.bytes,
        reads_bytes=CONCURRENT_READS * index.table_bytes + index.bytes,
        disk_bytes=index.bytes,
        tablespace=index.tablespace,
        is_parley_table=index.is_parley_table,
        is_owner=index.is_owned,
    )


def rebuild_step(check: str, index: Index) -> Step | None:
    """Return a step that rebuilds the index, or None where PostgreSQL cannot. It needs no undo."""
    return build_step(check, index, (index.rebuild,), ()) if index.rebuild else None


def drop_step(check: str, index: Index, *, relies_on: Index | None = None) -> Step | None:
    """Return a step that drops the index; its undo is the definition. `relies_on` replaces the index.

    Returns None for the index of a partitioned table, because dropping it blocks reads and writes.
    """
    if index.is_partitioned:
        return None
    sql = f"DROP INDEX CONCURRENTLY {index.sql_name}"
    return replace(
        build_step(check, index, (sql,), (index.definition_concurrently,)),
        reads_bytes=0,
        disk_bytes=0,
        relies_on=relies_on.sql_name if relies_on else None,
    )
