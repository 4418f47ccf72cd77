"""The list of runbooks, `docs/runbooks/README.md`: its tables are written from `ops/catalogue.py`.

python -m ops.runbook_index            write them
python -m ops.runbook_index --check    write nothing; exit code 1 when they are out of date
"""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from ops.catalogue import CHECKS, JOBS
from ops.declarations import Check, Job

PAGE = Path(__file__).resolve().parents[1] / "docs" / "runbooks" / "README.md"


def jobs_table(jobs: Sequence[Job] = JOBS) -> str:
    """What runs by itself, in the catalogue's order."""
    rows = [
        f"| `{job.name}` | {job.schedule or 'when asked for'} | [{job.id}]({Path(job.runbook).name}) |" for job in jobs
    ]
    return "\n".join(["| job | when | page |", "| --- | --- | --- |", *rows])


def checks_table(checks: Sequence[Check] = CHECKS) -> str:
    """What the doctor asks, in the order in which it does."""
    rows = [
        f"| `{check.id}` | {check.asks}{' (thorough)' if check.thorough else ''} | {check.worst} | "
        f"[{Path(check.runbook).stem}]({Path(check.runbook).name}) |"
        for check in checks
    ]
    return "\n".join(["| check | asks | at worst | page |", "| --- | --- | --- | --- |", *rows])


def written(page: str) -> str:
    """`page` with its tables made anew. Raises `ValueError` where a place for one is missing."""
    for name, table in (("jobs", jobs_table()), ("checks", checks_table())):
        place = re.compile(f"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"{PAGE.name} has no place for the table of {name}")
        page = place.sub(lambda _, table=table: f"{table}\n", page)  # type: ignore[misc]  # a default binds it now
    return page


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when the tables are out of date.")
def main(check: bool) -> None:
    """Write the tables of docs/runbooks/README.md from ops/catalogue.py."""
    page = PAGE.read_text()
    wanted = written(page)
    if page == wanted:
        return
    if check:
        raise click.ClickException("docs/runbooks/README.md: out of date; run `python -m ops.runbook_index`")
    PAGE.write_text(wanted)
    click.echo("wrote docs/runbooks/README.md")


if __name__ == "__main__":
    main()
