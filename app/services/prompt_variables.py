"""Variables of prompts: a closed list of names in double braces, replaced once, without a template engine.

Only prompts that opt in have variables. What replaces a name is not searched for names again.
"""

import re
from collections.abc import Mapping

from app.errors import InvalidInput

VARIABLES: Mapping[str, str] = {
    "date": "Date in UTC at the beginning of the turn, such as 2026-12-01.",
    "time": "Time in UTC at the beginning of the turn, such as 14:05.",
    "weekday": "Day of the week in UTC, in English.",
    "user.name": "Name of the user, on one line and without markup.",
    "project.name": "Name of the project, on one line and without markup.",
    "provider": "Provider that is asked first.",
    "model": "Model that is asked first.",
}
MAX_USES = 100  # of variables in one prompt, because a value may be longer than its name

_USE = re.compile(r"\{\{([^{}]*)\}\}")
_LONGEST_NAME = 50  # characters of an unknown name that is quoted


def check_variables(field: str, content: str | None) -> None:
    """Raise `InvalidInput` for the field if its text has unknown variables, or too many."""
    uses = _USE.findall(content or "")
    problem = None
    if unknown := [use.strip() for use in uses if use.strip() not in VARIABLES]:
        known = ", ".join(f"{{{{{name}}}}}" for name in VARIABLES)
        problem = f"Unknown variable {{{{{unknown[0][:_LONGEST_NAME]}}}}}. The variables are: {known}."
    elif len(uses) > MAX_USES:
        problem = f"Has more than {MAX_USES} variables."
    if problem is not None:
        raise InvalidInput(fields={field: [problem]})


def expand(content: str, values: Mapping[str, str]) -> str:
    """Return the text with each variable of `values` replaced; others stay as they are."""
    return _USE.sub(lambda use: values.get(use[1].strip(), use[0]), content)
