"""`flask ops sizes`: the present sizes of tables and indexes."""

import click
from rich.console import Console

from ops.checks.context import open_check_context
from ops.cli.base import command, json_option, print_report
from ops.cli.rendering import table
from ops.formatting import format_size
from ops.stats.sizes import SizesReport, read_sizes


@command("sizes")
@click.option("--indexes", is_flag=True, help="List each index, with the number of its scans.")
@json_option
def show_sizes(indexes: bool, json: bool) -> None:
    """Show the present sizes of tables and indexes."""
    with open_check_context() as context:
        report = read_sizes(context.connection)
    print_report("sizes", report, json=json, view=lambda console: _print(console, report, indexes=indexes))


def _print(console: Console, report: SizesReport, *, indexes: bool) -> None:
    console.print(f"The database has {format_size(report.database_bytes)}.\n")
    rows = []
    for size in report.tables:
        rows.append(
            {
                "table": size.table,
                "total": _size(size.total_bytes),
                "table only": _size(size.table_bytes),
                "TOAST": _size(size.toast_bytes),
                "indexes": _size(size.index_bytes),
                "rows": "not counted" if size.rows is None else f"about {size.rows:,}",
            }
        )
        if indexes:
            rows += [
                {
                    "table": f"  {index.index}" + ("" if index.valid else " (invalid)"),
                    "total": "",
                    "table only": "",
                    "TOAST": "",
                    "indexes": format_size(index.bytes),
                    "rows": f"{index.scans:,} scans",
                }
                for index in size.indexes
            ]
    table(console, rows)


def _size(count: int | None) -> str:
    return "locked" if count is None else format_size(count)
