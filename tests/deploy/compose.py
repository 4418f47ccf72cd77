"""docker-compose.yml with its variables interpolated as Compose does it."""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"

# Variables without a default.
SECRETS = {
    "POSTGRES_PASSWORD": "postgres-password-0123456789abcdef",
    "REDIS_PASSWORD": "redis-password-0123456789abcdef",
    "JWT_SECRET_KEY": "a-secret-for-tests-only-0123456789abcdef",
    "OPS_TOKEN": "ops-token-0123456789abcdef",
    "GRAFANA_ADMIN_PASSWORD": "grafana-password-0123456789abcdef",
}


class MissingVariable(Exception):
    """A required variable is not set; the text is Compose's message."""


@dataclass(frozen=True)
class Service:
    """One service of the file."""

    name: str
    raw: dict[str, Any]

    @property
    def command(self) -> list[str]:
        """The command and its arguments."""
        return [str(word) for word in self.raw["command"]]

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables."""
        return {name: str(value) for name, value in self.raw.get("environment", {}).items()}


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """Load the file with `variables` filled in. Raises `MissingVariable`."""
    return dict(_interpolate_all(yaml.safe_load(FILE.read_text()), variables))


def services(variables: Mapping[str, str]) -> dict[str, Service]:
    """Return the services by name. Raises `MissingVariable`."""
    return {name: Service(name, raw) for name, raw in load(variables)["services"].items()}


def _interpolate_all(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate_all(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolate_all(item, variables) for item in value]
    return interpolate(value, variables) if isinstance(value, str) else value


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `${NAME:?message}`, also nested; `$$` is a dollar.

    Raises `MissingVariable`.
    """
    out, position = "", 0
    while (start := text.find("$", position)) >= 0:
        out += text[position:start]
        if text[start + 1 : start + 2] == "$":
            out, position = out + "$", start + 2
            continue
        assert text[start + 1 : start + 2] == "{", f"invalid interpolation in {text!r}"
        end = _closing_brace(text, start + 2)
        out, position = out + _value(text[start + 2 : end], variables), end + 1
    return out + text[position:]


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise AssertionError(f"a brace is not closed in {text!r}")


def _value(expression: str, variables: Mapping[str, str]) -> str:
    match = re.fullmatch(r"([A-Z_]+)(?::([-?])(.*))?", expression, re.DOTALL)
    assert match, f"unsupported interpolation: {expression!r}"
    name, kind, rest = match.groups()
    assert set(name) <= {*string.ascii_uppercase, "_"}
    if variables.get(name):
        return variables[name]
    if kind == "?":
        raise MissingVariable(f"required variable {name} is missing a value: {rest}")
    return interpolate(rest or "", variables)
