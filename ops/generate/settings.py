"""The settings as a page and as an example `.env`, generated from `app/config/`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.config import GROUPS
from app.config.values import BrokerUrl, Group, PostgresUrl, RedisUrl

PAGE = """\
# Settings

Settings come from the environment, or from a file `.env` in the project's folder; the environment takes precedence. An
empty value counts as unset. With a wrong value a process does not start and prints one line that names the variable.
Secrets are never logged. This page and [.env.example](../.env.example) are generated from `app/config/`: change that
file, then run `make generate`.
"""
EXAMPLE = """\
# Copy this file to .env and uncomment what you want to change. The values are the defaults.
# Generated from app/config/ by `make generate`; docs/settings.md has the same as a table.
"""
# Variables that only docker-compose.yml reads, with their defaults and descriptions.
COMPOSE = {
    "POSTGRES_PASSWORD": (
        "",
        "Password of that PostgreSQL. (secret, letters and digits, required without DATABASE_URL)",
    ),
    "COMPOSE_PROFILES": ("", "database starts PostgreSQL and PgBouncer too; leave it unset with DATABASE_URL. (text)"),
    "REDIS_PASSWORD": ("", "Password of Redis. (secret, letters and digits, required)"),
    "GRAFANA_ADMIN_PASSWORD": ("", "Password of Grafana's user admin. (secret, required)"),
    "EXPORTER_DATABASE_URL": (
        "",
        "URL of the database for postgres_exporter; unset uses DATABASE_DIRECT_URL or DATABASE_URL. (PostgreSQL URL)",
    ),
    "PUBLISH_GRAFANA": ("127.0.0.1:3000", "Address and port of this machine that Grafana listens on. (text)"),
    "PUBLISH_PROMETHEUS": ("127.0.0.1:9090", "Address and port of this machine that Prometheus listens on. (text)"),
    "PUBLISH_ALERTMANAGER": ("127.0.0.1:9093", "Address and port of this machine that Alertmanager listens on. (text)"),
    "PUBLISH": ("127.0.0.1:8080", "Address and port of this machine that nginx listens on. (text)"),
    "WEB_STOP_SECONDS": ("40", "Seconds that a web server may take to stop; ten more than WEB_GRACE_SECONDS. (number)"),
    "PARLEY_VERSION": ("local", "Tag of the image. (text)"),
}
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


def settings_page(groups: Mapping[str, type[Group]] = GROUPS) -> str:
    """Return the page of all settings in Markdown: one table per group, in the order of the code."""
    sections = [PAGE]
    for name, group in groups.items():
        rows = [
            f"| `{variable(field)}` | {_cell(default(field)) or 'unset'} | {accepts(field)} | {_escape(field)} |"
            for field in group.model_fields.values()
        ]
        head = ["| variable | default | accepts | description |", "| --- | --- | --- | --- |"]
        sections.append("\n".join([f"## {name.capitalize()}", "", *head, *rows, ""]))
    return "\n".join(sections)


def env_example(groups: Mapping[str, type[Group]] = GROUPS) -> str:
    """Return an example `.env`: each setting commented out, with its default and its description."""
    sections = [EXAMPLE]
    for name, group in groups.items():
        lines = [f"# --- {name.capitalize()} ---"]
        for field in group.model_fields.values():
            description = f"{field.description} ({accepts(field)})".replace("`", "")
            lines += [f"# {description}", f"#{variable(field)}={default(field)}"]
        sections.append("\n".join([*lines, ""]))
    lines = ["# --- Only for Docker Compose, see docs/deployment.md ---"]
    for name, (value, description) in COMPOSE.items():
        lines += [f"# {description}", f"#{name}={value}"]
    sections.append("\n".join([*lines, ""]))
    return "\n".join(sections)


def variable(field: FieldInfo) -> str:
    """Return the environment variable of a setting. Raises `TypeError` for a field without one."""
    if not isinstance(field.validation_alias, str):
        raise TypeError(f"the setting {field!r} has no single variable: give it a validation_alias")
    return field.validation_alias


def default(field: FieldInfo) -> str:
    """Return the default as text for `.env`; empty if unset."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def accepts(field: FieldInfo) -> str:
    """Return the type and the bounds of a setting, for example "whole number, 1 to 65535"."""
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not type(None)]
    text = " or ".join(_kind(kind) for kind in kinds)
    bounds = _bounds(field.metadata)
    return f"{text}, {bounds}" if bounds else text


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself."""
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
    limits = {
        name: (word, getattr(c, name)) for c in constraints for kind, word, name in _BOUNDS if isinstance(c, kind)
    }
    if "ge" in limits and "le" in limits:
        texts = [f"{limits['ge'][1]} to {limits['le'][1]}"]
    else:
        texts = [f"{word} {limit}" for word, limit in limits.values()]
    texts += [f"at least {c.min_length} characters" for c in constraints if isinstance(c, MinLen)]
    texts += [f"at most {c.max_length} characters" for c in constraints if isinstance(c, MaxLen)]
    texts += [f"matching `{c.pattern}`" for c in constraints if getattr(c, "pattern", None)]
    return ", ".join(texts)


def _escape(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _cell(text: str) -> str:
    return f"`{text}`" if text else ""
