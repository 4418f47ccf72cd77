"""B-trees that take at least twice the room that their entries need.

First an estimate, from what ANALYZE knows of the columns: it reads nothing. It can be wrong by as much as ANALYZE is,
so what it suspects is measured by pgstattuple, which reads the index, where that is affordable. Only what was measured
is called bloated, and planned to be rebuilt. Other tools go by an estimate alone; one that does not know that
PostgreSQL keeps equal keys only once misses what is bloated by less than that saves.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from app.repositories.statement import Statement
from ops.checks.extensions import install, schema_of
from ops.checks.indexes.cases import PLAN, Case, case, findings, rebuild
from ops.checks.indexes.reading import Index, Reading, read
from ops.checks.probe import Probe
from ops.checks.tables import Table, read_tables
from ops.findings import Finding
from ops.levels import Level

CHECK = "indexes.bloat"
LEAST_BYTES = 10_000_000
FACTOR = 2.0  # times the room that its entries need
STALE = 0.25  # of the rows changed since the last ANALYZE
MEASURED_BYTES = 1_000_000_000  # larger ones are not read by a check
PATIENCE = timedelta(seconds=30)  # for one index

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
    """Bytes that the entries of an index need: kept one by one, and with equal keys kept once. The truth is between."""

    plain: float
    deduplicated: float


def bloat(probe: Probe) -> Iterator[Finding]:
    """Every B-tree of at least 10 MB and twice the room it needs; and those of which that cannot be told."""
    reading = read(probe)
    yield from findings(cases(probe, reading))
    yield from reading.unread()


def cases(probe: Probe, reading: Reading) -> Iterator[Case]:
    tables = {table.oid: table for table in read_tables(probe)}
    schema = schema_of(probe, "pgstattuple")
    for index in reading.indexes:
        if index.method != "btree" or index.bytes < LEAST_BYTES or not index.serves or index.is_partitioned:
            continue
        table = tables.get(index.table_oid)
        estimate = _estimate(probe, index, table)
        if estimate is None:
            yield Case(_stale(index))
        elif index.bytes >= FACTOR * estimate.deduplicated:
            suspected = index.bytes >= FACTOR * estimate.plain
            yield from _measured(probe, schema, index, estimate, suspected=suspected)


def estimated(index: Index, columns: list[Row[Any]]) -> Estimate | None:
    """What `index` needs by the statistics of its columns; None where there are none."""
    if index.rows < 0 or not columns or any(column.width is None for column in columns):
        return None
    rows, fill, settings = index.rows, LEAF_FILL, dict(each.partition("=")[::2] for each in index.storage)
    fill = int(settings.get("fillfactor", LEAF_FILL))
    data = 0
    for column in columns:
        align = {"c": 1, "s": 2, "i": 4, "d": 8}[column.alignment] if column.width >= _WORD else 1
        data = math.ceil(data / align) * align + round(column.width * (1 - column.nulls))
    entry = math.ceil((ENTRY_HEADER + data) / _WORD) * _WORD + ITEM_POINTER
    plain = rows * entry
    once = plain
    if not index.is_unique and not index.included and settings.get("deduplicate_items") not in ("off", "false"):
        distinct = max(
            each.distinct if each.distinct >= 0 else -each.distinct * max(index.table_rows, 1) for each in columns
        )
        once = min(plain, min(distinct, rows) * entry + rows * TUPLE_ID)
    return Estimate(_pages(plain, entry, fill) * PAGE, _pages(once, entry, fill) * PAGE)


def _pages(payload: float, entry: int, fill: int) -> float:
    """The leaves, the pages above them, and the one that says where the root is."""
    leaves = math.ceil(payload / ((PAGE - PAGE_OVERHEAD) * fill / 100)) or 1
    return leaves + leaves * entry / (PAGE * 0.7) + 1


def _estimate(probe: Probe, index: Index, table: Table | None) -> Estimate | None:
    if index.is_toast:  # always an oid and a number, and nothing keeps statistics of it
        rows = max(index.rows, 0)
        return None if index.rows < 0 else Estimate(*[_pages(rows * 20, 20, LEAF_FILL) * PAGE] * 2)
    if table is None or table.rows < 0 or table.changed > STALE * max(table.rows, table.live, 1):
        return None
    return estimated(index, list(COLUMNS.all(probe.connection, {"oid": index.oid})))


def _measured(probe: Probe, schema: str | None, index: Index, estimate: Estimate, *, suspected: bool) -> Iterator[Case]:
    """`suspected`: even by the estimate that finds it least bloated."""
    if schema is None or index.bytes > MEASURED_BYTES:
        if suspected:
            yield Case(_unmeasured(index, estimate, extension=schema is None))
        return
    try:
        with probe.patience(PATIENCE):
            row = Statement("ops.pgstatindex", MEASURE.format(schema=schema)).one(probe.connection, {"oid": index.oid})
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) not in ("42501", "57014", "55P03"):
            raise
        if suspected:
            yield Case(_unmeasured(index, estimate, extension=False))
        return
    if row is None or not row.leaf_pages or math.isnan(row.density):
        return
    settings = dict(each.partition("=")[::2] for each in index.storage)
    needed = row.leaf_pages * row.density / int(settings.get("fillfactor", LEAF_FILL)) + row.internal_pages + 1
    factor = index.bytes / (PAGE * max(needed, 1))
    if factor >= FACTOR:
        yield _case(index, factor, row.density)


def _case(index: Index, factor: float, density: float) -> Case:
    step = rebuild(CHECK, index)
    evidence = {
        "index": index.sql_name,
        "table": index.sql_table,
        "bytes": index.bytes,
        "times_needed": round(factor, 1),
        "leaf_density_percent": density,
        "measured": True,
    }
    what = f"{index.sql_name} takes {index.bytes / 1_000_000:.0f} MB, {factor:.1f} times what its entries need."
    return case(Level.WARNING, what, evidence, step=step, remedy=PLAN if step else "REINDEX it when nobody writes.")


def _stale(index: Index) -> Finding:
    return Finding(
        level=Level.UNKNOWN,
        what=f"Whether {index.sql_name} is bloated cannot be told: what is known of the columns of {index.sql_table} is"
        " too old, or this role may not see it.",
        evidence={"index": index.sql_name, "bytes": index.bytes},
        remedy="ANALYZE, then ask again; see tables.statistics",
        sql=f"ANALYZE {index.sql_table};",
    )


def _unmeasured(index: Index, estimate: Estimate, *, extension: bool) -> Finding:
    factor = index.bytes / estimate.plain
    why = "pgstattuple is not installed" if extension else "it is too large, or this role may not measure it"
    grant = "GRANT pg_stat_scan_tables TO the role, or measure it where it is quiet: SELECT * FROM pgstatindex(...)"
    return Finding(
        level=Level.UNKNOWN,
        what=f"{index.sql_name} seems to take {factor:.1f} times what its entries need; it was not measured: {why}.",
        evidence={
            "index": index.sql_name,
            "bytes": index.bytes,
            "estimated_times": round(factor, 1),
            "measured": False,
        },
        remedy=install("pgstattuple") if extension else grant,
    )
