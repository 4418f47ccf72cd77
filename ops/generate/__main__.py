"""Write all generated files: `python -m ops.generate`. With `--check`, report the stale ones instead."""

import sys

import click

from ops.generate.files import stale_files, write_files


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file is out of date.")
def main(check: bool) -> None:
    """Write the pages and files that are generated from the code."""
    if not check:
        for path in write_files():
            click.echo(f"wrote {path}")
        return
    stale = stale_files()
    for path in stale:
        click.echo(f"{path} is out of date: run `make generate`", err=True)
    sys.exit(1 if stale else 0)


if __name__ == "__main__":
    main(prog_name="python -m ops.generate")
