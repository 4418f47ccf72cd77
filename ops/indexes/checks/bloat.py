"""Bloated B-trees: at least twice the size that their entries need.

A first estimate uses the column statistics and reads nothing. It is as wrong as they are, so a suspected index is
measured with pgstattuple, which reads it, unless it is too large. Only a measured index is reported as bloated and
planned for a rebuild. The estimate includes deduplication: without it, bloat smaller than its savings stays hidden.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from app.database import sqlstate
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.extensions import install, schema_of
from ops.checks.findings import Finding
from ops.indexes.findings import PLAN, IndexFinding, index_finding, rebuild_step, without_steps
from ops.indexes.snapshot import Index, IndexSnapshot, read_indexes
from ops.indexes.tables import Table, read_table_statistics
from ops.levels import Level

CHECK = "indexes.bloat"
MIN_BYTES = 10_000_000
FACTOR = 2.0  # times the size that its entries need
STALE = 0.25  # share of rows changed since the last ANALYZE
MEASURED_BYTES = 1_000_000_000  # larger indexes are not measured
MEASURE_TIMEOUT = timedelta(seconds=30)  # for one index

# nbtree.h, itup.h and bufpage.h: bytes of a page, of its header and special space, of an entry's header and pointer.
PAGE, PAGE_OVERHEAD, ENTRY_HEADER, ITEM_POINTER, TUPLE_ID = 8192, 24 + 16, 8, 4, 6
LEAF_FILL = 90  # per cent, unless the index says otherwise
_WORD = 8

COLUMNS = Statement(
    "ops.index_columns",
    """
SELECT s.avg_width AS width, s.null_frac AS nulls, s.n_distinct AS distinct, a.attalign AS alignment
  FROM pg_index i
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_attribute a ON a.attrelid = i.indexrelid
  LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum = i.indkey[a.attnum - 1] AND ta.attnum > 0
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND NOT s.inherited
        AND s.tablename = CASE WHEN ta.attnum IS NULL THEN c.relname ELSE t.relname END
        AND s.attname = CASE WHEN ta.attnum IS NULL THEN a.attname ELSE ta.attname END
 WHERE i.indexrelid = %(oid)s AND a.attnum > 0
 ORDER BY a.attnum""",
)
MEASURE = "SELECT leaf_pages, internal_pages, avg_leaf_density AS density FROM {schema}.pgstatindex(%(oid)s::regclass)"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that the entries need, without and with deduplication. The real need is between the two."""

    plain: float
    deduplicated: float


@check(CHECK, "Are there bloated indexes, at least twice their needed size?", severity=Level.WARNING)
def bloat(context: CheckContext) -> Iterator[Finding]:
    """Find B-trees of at least 10 MB and twice their needed size; those with unknown bloat have the level UNKNOWN."""
    snapshot = read_indexes(context)
    yield from without_steps(index_findings(context, snapshot))
    yield from snapshot.unreadable()


def index_findings(context: CheckContext, snapshot: IndexSnapshot) -> Iterator[IndexFinding]:
    tables = {table.oid: table for table in read_table_statistics(context)}
    schema = schema_of(context, "pgstattuple")
    for index in snapshot.indexes:
        if index.method != "btree" or index.bytes < MIN_BYTES or not index.is_usable or index.is_partitioned:
            continue
        table = tables.get(index.table_oid)
        estimate = _estimate(context, index, table)
        if estimate is None:
            yield IndexFinding(_unknown_finding(index))
        elif index.bytes >= FACTOR * estimate.deduplicated:
            suspected = index.bytes >= FACTOR * estimate.plain
            yield from _measured(context, schema, index, estimate, suspected=suspected)


def estimated(index: Index, columns: list[Row[Any]]) -> Estimate | None:
    """Estimate the size that `index` needs from the statistics of its columns; None if they are missing."""
    if index.rows < 0 or not columns or any(column.width is None for column in columns):
        return None
    rows, fill, settings = index.rows, LEAF_FILL, dict(option.partition("=")[::2] for option in index.storage)
    fill = int(settings.get("fillfactor", LEAF_FILL))
    data = 0
    for column in columns:
        align = {"c": 1, "s": 2, "i": 4, "d": 8}[column.alignment] if column.width >= _WORD else 1
        data = math.ceil(data / align) * align + round(column.width * (1 - column.nulls))
    entry = math.ceil((ENTRY_HEADER + data) / _WORD) * _WORD + ITEM_POINTER
    plain = rows * entry
    deduplicated = plain
    if not index.is_unique and not index.included and settings.get("deduplicate_items") not in ("off", "false"):
        distinct = max(
            column.distinct if column.distinct >= 0 else -column.distinct * max(index.table_rows, 1)
            for column in columns
        )
        deduplicated = min(plain, min(distinct, rows) * entry + rows * TUPLE_ID)
    return Estimate(_pages(plain, entry, fill) * PAGE, _pages(deduplicated, entry, fill) * PAGE)


def _pages(payload: float, entry: int, fill: int) -> float:
    """Return the number of leaf pages, inner pages and the metapage."""
    leaves = math.ceil(payload / ((PAGE - PAGE_OVERHEAD) * fill / 100)) or 1
    return leaves + leaves * entry / (PAGE * 0.7) + 1


def _estimate(context: CheckContext, index: Index, table: Table | None) -> Estimate | None:
    if index.is_toast:  # always an oid and an integer; TOAST tables have no column statistics
        rows = max(index.rows, 0)
        return None if index.rows < 0 else Estimate(*[_pages(rows * 20, 20, LEAF_FILL) * PAGE] * 2)
    if table is None or table.rows < 0 or table.changed > STALE * max(table.rows, table.live, 1):
        return None
    return estimated(index, list(COLUMNS.all(context.connection, {"oid": index.oid})))


def _measured(
    context: CheckContext, schema: str | None, index: Index, estimate: Estimate, *, suspected: bool
) -> Iterator[IndexFinding]:
    """Measure `index` where possible. `suspected`: it is bloated even by the higher estimate of its need."""
    if schema is None or index.bytes > MEASURED_BYTES:
        if suspected:
            yield IndexFinding(_unmeasured_finding(index, estimate, extension=schema is None))
        return
    try:
        with context.statement_timeout(MEASURE_TIMEOUT):
            row = Statement("ops.pgstatindex", MEASURE.format(schema=schema)).one(
                context.connection, {"oid": index.oid}
            )
    except DBAPIError as error:
        if sqlstate(error) not in ("42501", "57014", "55P03"):
            raise
        if suspected:
            yield IndexFinding(_unmeasured_finding(index, estimate, extension=False))
        return
    if row is None or not row.leaf_pages or math.isnan(row.density):
        return
    settings = dict(option.partition("=")[::2] for option in index.storage)
    needed = row.leaf_pages * row.density / int(settings.get("fillfactor", LEAF_FILL)) + row.internal_pages + 1
    factor = index.bytes / (PAGE * max(needed, 1))
    if factor >= FACTOR:
        yield _bloat_finding(index, factor, row.density)


def _bloat_finding(index: Index, factor: float, density: float) -> IndexFinding:
    step = rebuild_step(CHECK, index)
    evidence = {
        "index": index.sql_name,
        "table": index.sql_table,
        "bytes": index.bytes,
        "times_needed": round(factor, 1),
        "leaf_density_percent": density,
        "measured": True,
    }
    message = f"{index.sql_name} takes {index.bytes / 1_000_000:.0f} MB, {factor:.1f} times what its entries need."
    remedy = PLAN if step else "Can writes to the table stop for a while? Then REINDEX it"
    return index_finding(Level.WARNING, message, evidence, step=step, remedy=remedy)


def _unknown_finding(index: Index) -> Finding:
    return Finding(
        object=index.sql_name,
        level=Level.UNKNOWN,
        message=f"The bloat of {index.sql_name} is unknown: the column statistics of {index.sql_table} are out of date,"
        " or this role may not read them.",
        evidence={"index": index.sql_name, "bytes": index.bytes},
        remedy="ANALYZE, then check again; see tables.statistics",
        sql=f"ANALYZE {index.sql_table};",
    )


def _unmeasured_finding(index: Index, estimate: Estimate, *, extension: bool) -> Finding:
    factor = index.bytes / estimate.plain
    reason = "pgstattuple is not installed" if extension else "it is too large, or this role may not measure it"
    grant = "GRANT pg_stat_scan_tables TO the role, or measure it at a quiet time: SELECT * FROM pgstatindex(...)"
    return Finding(
        object=index.sql_name,
        level=Level.UNKNOWN,
        message=f"{index.sql_name} takes about {factor:.1f} times what its entries need; not measured: {reason}.",
        evidence={
            "index": index.sql_name,
            "bytes": index.bytes,
            "estimated_times": round(factor, 1),
            "measured": False,
        },
        remedy=install("pgstattuple") if extension else grant,
    )
