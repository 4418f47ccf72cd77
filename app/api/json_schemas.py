"""JSON Schemas that callers send as the form of an answer."""

from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

import jsonschema_rs
import orjson

from app.api.json_values import levels

LARGEST_SCHEMA = 16_384  # bytes as JSON
DEEPEST_SCHEMA = 20  # levels of objects and arrays

# A schema of another dialect would be fetched to be checked.
_DIALECTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
)
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_LONGEST_PROBLEM = 300  # characters; a problem quotes what is wrong


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Return what is wrong with a JSON Schema, in one sentence; None if nothing is.

    A reference to another document is refused, so that neither Parley nor a provider fetches it.
    """
    if len(orjson.dumps(schema)) > LARGEST_SCHEMA:
        return f"Larger than {LARGEST_SCHEMA} bytes as JSON."
    containers = list(islice(levels(schema), DEEPEST_SCHEMA + 1))
    if len(containers) > DEEPEST_SCHEMA:
        return f"Nested deeper than {DEEPEST_SCHEMA} levels."
    if schema.get("$schema", _DIALECTS[0]) not in _DIALECTS:
        return f"`$schema` must be one of {', '.join(_DIALECTS)}."
    if any(map(_refers_elsewhere, chain.from_iterable(containers))):
        return "`$ref` must begin with #, for a part of the same schema."
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        path = ".".join(str(step) for step in error.instance_path)
        problem = f"Not a JSON Schema: {f'{path}: ' if path else ''}{error.message}"
        return problem if len(problem) <= _LONGEST_PROBLEM else f"{problem[: _LONGEST_PROBLEM - 3]}..."
    return None


def _refers_elsewhere(container: Any) -> bool:
    if not isinstance(container, Mapping):
        return False
    references = (container.get(name) for name in _REFERENCES)
    return any(isinstance(reference, str) and not reference.startswith("#") for reference in references)
