"""The prompts of a project as they are sent: their texts with the values of variables, and their versions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.services.prompt_variables import expand
from app.text import inline_text

_LONGEST_VALUE = 100  # characters


def prompt_texts(
    prompts: Sequence[Mapping[str, Any]] | None, *, at: datetime, provider: str, model: str | None
) -> list[str]:
    """Return the texts of the prompts of a begun turn. `at` is its beginning; `model` None is an empty value."""
    moment = at.astimezone(UTC)
    values = {
        "date": f"{moment:%Y-%m-%d}",
        "time": f"{moment:%H:%M}",
        "weekday": f"{moment:%A}",
        "provider": provider,
        "model": model or "",
    }
    return [_text(prompt, values) for prompt in prompts or ()]


def prompt_versions(prompts: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return the metadata of an answer with the versions of the prompts; nothing without prompts."""
    used = [{"id": prompt["id"], "version": prompt["version"]} for prompt in prompts or ()]
    return {"prompts": used} if used else {}


def _text(prompt: Mapping[str, Any], values: Mapping[str, str]) -> str:
    if prompt["names"] is None:  # the prompt has not opted in
        return str(prompt["content"])
    known = {**values, **prompt["names"]}
    return expand(prompt["content"], {name: inline_text(value or "", _LONGEST_VALUE) for name, value in known.items()})
