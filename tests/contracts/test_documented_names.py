"""Names quoted in pages exist: checks, jobs, columns, statements, tables of SQL blocks, and metrics."""

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

import app.models  # noqa: F401  # so that all tables are known
from app.extensions import Base
from app.metrics import exposition, registry
from ops.catalogue.jobs import JOBS
from ops.doctor.registry import CHECKS
from tests.contracts.test_docs import CHANGELOG, PAGES, ROOT

CURRENT = [page for page in PAGES if page != CHANGELOG]  # the changelog names former things
COLUMNS = {table.name: set(table.columns.keys()) for table in Base.metadata.sorted_tables}
RUNNABLE = {check.id for check in CHECKS} | {job.name for job in JOBS}
# Names of statements, as the argument of a `Statement` or as a comment of a query.
STATEMENTS = {
    name
    for path in (ROOT / "app" / "repositories").glob("*.py")
    for name in re.findall(r"(?:\"|/\* )([a-z_]+\.[a-z_]+)(?:\"| \*/)", path.read_text())
}
SERIES = ("_bucket", "_sum", "_count", "_total", "_created")  # endings that Prometheus adds

per_page = pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())


@per_page
def test_quoted_checks_jobs_columns_and_statements_exist(page: Path) -> None:
    groups = {name.partition(".")[0] for name in RUNNABLE} | set(COLUMNS)
    unknown = [
        f"{group}.{name}"
        for group, name in re.findall(r"`([a-z_]+)\.([a-z_]+)`", page.read_text())
        if group in groups and f"{group}.{name}" not in RUNNABLE | STATEMENTS and name not in COLUMNS.get(group, ())
    ]
    assert unknown == []


@per_page
def test_tables_in_sql_blocks_exist(engine: Engine, page: Path) -> None:
    blocks = re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    tables = set(re.findall(r"\b(?:FROM|JOIN|UPDATE|INTO|TABLE)\s+(?:ONLY )?([a-z_]+)", "\n".join(blocks)))
    with engine.connect() as connection:
        query = text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NULL")
        missing = connection.execute(query, {"names": sorted(tables - {"pg_stat_statements"})}).scalars().all()
    assert missing == []


@per_page
def test_quoted_metrics_are_declared(page: Path) -> None:
    assert exposition.DECLARING  # imported, so that each metric is declared
    quoted = set(re.findall(rf"`({registry.PREFIX}[a-z0-9_]+[a-z0-9])\b", page.read_text()))
    assert [
        name for name in quoted if not {name, *(name.removesuffix(ending) for ending in SERIES)} & set(registry.METRICS)
    ] == []


def test_pages_quote_names_of_every_kind() -> None:
    """The patterns above match something, so that a change of the pages' style does not silence them."""
    pages = "\n".join(page.read_text() for page in CURRENT)
    assert sum(f"`{name}`" in pages for name in RUNNABLE) > 20
    assert sum(f"`{name}" in pages for name in registry.METRICS) > 10
    assert "```sql\n" in pages
