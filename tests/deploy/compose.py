"""docker-compose.yml as Compose reads it: with its variables filled in, or the line that says which one is missing."""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"

# What an operator has to choose; everything else has a default.
SECRETS = {
    "POSTGRES_PASSWORD": "postgres-password-0123456789abcdef",
    "REDIS_PASSWORD": "redis-password-0123456789abcdef",
    "JWT_SECRET_KEY": "a-secret-for-tests-only-0123456789abcdef",
    "OPS_TOKEN": "ops-token-0123456789abcdef",
}


class Missing(Exception):
    """A variable that has to be set; the text is what Compose would say of it."""


@dataclass(frozen=True)
class Service:
    """What of a service decides which process runs: Compose's names and meanings."""

    name: str
    raw: dict[str, Any]

    @property
    def command(self) -> list[str]:
        return [str(word) for word in self.raw["command"]]

    @property
    def environment(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.raw.get("environment", {}).items()}


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The whole file with `variables` filled in. Raises `Missing`."""
    return dict(_filled(yaml.safe_load(FILE.read_text()), variables))


def services(variables: Mapping[str, str]) -> dict[str, Service]:
    return {name: Service(name, raw) for name, raw in load(variables)["services"].items()}


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, variables) for each in value]
    return interpolate(value, variables) if isinstance(value, str) else value


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}`, `${NAME:?message}`, one within another; `$$` is a dollar. Raises `Missing`."""
    out, place = "", 0
    while (start := text.find("$", place)) >= 0:
        out += text[place:start]
        if text[start + 1 : start + 2] == "$":
            out, place = out + "$", start + 2
            continue
        assert text[start + 1 : start + 2] == "{", f"a dollar that Compose would not understand in {text!r}"
        end = _closing(text, start + 2)
        out, place = out + _value(text[start + 2 : end], variables), end + 1
    return out + text[place:]


def _closing(text: str, start: int) -> int:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise AssertionError(f"a brace is not closed in {text!r}")


def _value(expression: str, variables: Mapping[str, str]) -> str:
    found = re.fullmatch(r"([A-Z_]+)(?::([-?])(.*))?", expression, re.DOTALL)
    assert found, f"{expression!r} is none of the forms that this file keeps to"
    name, kind, rest = found.groups()
    assert set(name) <= {*string.ascii_uppercase, "_"}
    if variables.get(name):
        return variables[name]
    if kind == "?":
        raise Missing(f"required variable {name} is missing a value: {rest}")
    return interpolate(rest or "", variables)
