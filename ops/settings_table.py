"""The settings as people read them: `docs/settings.md` and `.env.example`, both written from `app/config.py`.

    python -m ops.settings_table            write the two files
    python -m ops.settings_table --check    write nothing; exit code 1 when one of them is out of date

The code is the only place where a setting is described, so the two files cannot say anything else.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.config import GROUPS
from app.config_values import BrokerUrl, Group, PostgresUrl, RedisUrl

ROOT = Path(__file__).resolve().parents[1]
PAGE = """\
# Settings

Every setting comes from the environment or, second to it, from a file `.env` in the project's folder; an empty value
counts as unset. A wrong value keeps the process from starting, with one line that names the variable. Secrets are never
logged. This page and [.env.example](../.env.example) are written by `python -m ops.settings_table`: change
`app/config.py`, then run it.
"""
EXAMPLE = """\
# Copy this to .env and uncomment what you want to change; the values shown are the defaults.
# Written by `python -m ops.settings_table` from app/config.py; docs/settings.md is the same as a table.
"""
_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    Path: "path",
    SecretStr: "secret",
    BrokerUrl: "secret",
    RedisUrl: "secret",
}
_BOUNDS = ((Ge, "at least", "ge"), (Gt, "above", "gt"), (Le, "at most", "le"), (Lt, "below", "lt"))


def settings_table(groups: Mapping[str, type[Group]] = GROUPS) -> str:
    """The page of all settings, in Markdown: one table a group, in the order of the code."""
    sections = [PAGE]
    for name, group in groups.items():
        rows = [
            f"| `{variable(field)}` | {_cell(default(field)) or 'unset'} | {accepts(field)} | {_plain(field)} |"
            for field in group.model_fields.values()
        ]
        head = ["| variable | default | accepts | what it is |", "| --- | --- | --- | --- |"]
        sections.append("\n".join([f"## {name.capitalize()}", "", *head, *rows, ""]))
    return "\n".join(sections)


def env_example(groups: Mapping[str, type[Group]] = GROUPS) -> str:
    """A `.env` to start from: every setting commented out, at its default, under its description."""
    sections = [EXAMPLE]
    for name, group in groups.items():
        lines = [f"# --- {name.capitalize()} ---"]
        for field in group.model_fields.values():
            about = f"{field.description} ({accepts(field)})".replace("`", "")
            lines += [f"# {about}", f"#{variable(field)}={default(field)}"]
        sections.append("\n".join([*lines, ""]))
    return "\n".join(sections)


def variable(field: FieldInfo) -> str:
    """The environment variable that a setting is read from. Raises `TypeError` for a field without one."""
    if not isinstance(field.validation_alias, str):
        raise TypeError(f"the setting {field!r} names no single variable: give it a validation_alias")
    return field.validation_alias


def default(field: FieldInfo) -> str:
    """The default as one would write it into `.env`; empty for unset."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def accepts(field: FieldInfo) -> str:
    """The kind of value and its bounds, such as "whole number, 1 to 65535"."""
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not type(None)]
    said = " or ".join(_kind(kind) for kind in kinds)
    bounds = _bounds(field.metadata)
    return f"{said}, {bounds}" if bounds else said


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; the annotation itself if it is none."""
    if (
        annotation in _KINDS
        or annotation is PostgresUrl
        or get_origin(annotation) is Literal
        or not get_args(annotation)
    ):
        return (annotation,)
    return get_args(annotation) if type(None) in get_args(annotation) else (annotation,)


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if kind is PostgresUrl:
        return "PostgreSQL URL"
    if get_origin(kind) in (list, tuple, set, frozenset):
        return "list"
    return _KINDS.get(kind, "text")


def _bounds(constraints: list[Any]) -> str:
    found = {name: (word, getattr(c, name)) for c in constraints for kind, word, name in _BOUNDS if isinstance(c, kind)}
    if "ge" in found and "le" in found:
        said = [f"{found['ge'][1]} to {found['le'][1]}"]
    else:
        said = [f"{word} {limit}" for word, limit in found.values()]
    said += [f"at least {c.min_length} characters" for c in constraints if isinstance(c, MinLen)]
    said += [f"at most {c.max_length} characters" for c in constraints if isinstance(c, MaxLen)]
    said += [f"matching `{c.pattern}`" for c in constraints if getattr(c, "pattern", None)]
    return ", ".join(said)


def _plain(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _cell(text: str) -> str:
    return f"`{text}`" if text else ""


def files() -> Iterator[tuple[Path, str]]:
    """The generated files and what they should hold."""
    yield ROOT / "docs" / "settings.md", settings_table()
    yield ROOT / ".env.example", env_example()


def stale() -> list[Path]:
    """The generated files that are missing or out of date."""
    return [path for path, text in files() if not path.exists() or path.read_text() != text]


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is out of date.")
def main(check: bool) -> None:
    """Write docs/settings.md and .env.example from app/config.py."""
    old = stale()
    if check and old:
        names = ", ".join(str(path.relative_to(ROOT)) for path in old)
        raise click.ClickException(f"{names}: out of date; run `python -m ops.settings_table`")
    for path, text in files():
        if path in old:
            path.write_text(text)
            click.echo(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
