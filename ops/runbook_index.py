"""What is written from the catalogue and the command line: the tables of `docs/runbooks/README.md` and of
`docs/operations.md`.

    python -m ops.runbook_index            write them
    python -m ops.runbook_index --check    write nothing; exit code 1 when one of them is out of date
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from ops.catalogue import CHECKS, DUTIES, JOBS
from ops.declarations import Check, Duty, Job
from ops.doors import COMMAND_ONLY, REQUESTS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, OPERATIONS = DOCS / "runbooks" / "README.md", DOCS / "operations.md"


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


def duties_table(duties: Sequence[Duty] = DUTIES) -> str:
    """What is looked at every day, week and month."""
    rows = [
        f"| `flask ops routine {duty.name}` | {duty.job.schedule} | {', '.join(part.name for part in duty.parts)} | "
        f"[{duty.job.id}]({duty.job.runbook.removeprefix('docs/')}) |"
        for duty in duties
    ]
    return "\n".join(["| duty | by itself | looks at | page |", "| --- | --- | --- | --- |", *rows])


def commands_table() -> str:
    """Every command of `flask ops`, by its own first sentence, and where the admin API has the same."""
    from ops.cli.nouns import ops  # it brings the whole application along

    rows = [
        f"| `{name}` | {command.get_short_help_str(200)} | {_requests(name)} |"
        for name, command in commands(ops, "flask ops")
    ]
    return "\n".join(["| command | what it does | below `/api/admin` |", "| --- | --- | --- |", *rows])


def _requests(command: str) -> str:
    name = re.sub(r" [A-Z_]+\b", "", command).removeprefix("flask ops ")
    return "<br>".join(f"`{request}`" for request in REQUESTS.get(name, ())) or f"– ({COMMAND_ONLY.get(name)})"


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """The commands below a group, with their arguments, in the order of the alphabet."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            arguments = [each.human_readable_name for each in command.params if isinstance(each, click.Argument)]
            yield " ".join([path, name, *(argument.upper() for argument in arguments)]), command


TABLES: Mapping[Path, Mapping[str, Callable[[], str]]] = {
    PAGE: {"jobs": jobs_table, "checks": checks_table},
    OPERATIONS: {"duties": duties_table, "commands": commands_table},
}


def written(path: Path, page: str) -> str:
    """The text of `page`, which is that at `path`, with its tables made anew.

    Raises `ValueError` where a place for one is missing.
    """
    for name, make in TABLES[path].items():
        head, opening, rest = page.partition(f"<!-- {name} -->\n")
        _, closing, tail = rest.partition(f"<!-- /{name} -->")
        if not closing:
            raise ValueError(f"{path.name} has no place for the table of {name}")
        page = f"{head}{opening}{make()}\n{closing}{tail}"
    return page


def stale() -> list[Path]:
    """The pages whose tables are out of date."""
    return [path for path in TABLES if path.read_text() != written(path, path.read_text())]


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a table is out of date.")
def main(check: bool) -> None:
    """Write the tables of docs/runbooks/README.md and docs/operations.md."""
    for path in stale():
        if check:
            raise click.ClickException(f"docs/{path.relative_to(DOCS)}: out of date; run `python -m ops.runbook_index`")
        path.write_text(written(path, path.read_text()))
        click.echo(f"wrote docs/{path.relative_to(DOCS)}")


if __name__ == "__main__":
    main()
