"""Every text in a request is refused if nothing of it is visible, or is listed here with a reason."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from app.api.schemas.base import VISIBLE
from app.config import Settings
from app.extensions import db
from tests.contracts.application import as_served, offline, with_ops_token
from tests.contracts.fixtures_by_route import OwnedObjects
from tests.contracts.test_bounds import body_with, resolved
from tests.factories import LoggedInUser

DOCUMENT: dict[str, Any] = offline().test_client().get("/openapi.json").json or {}
# White space, zero-width characters, fillers, a variation selector, a blank Braille pattern, and several together.
BLANK = [" ", "\n\t", "\u200b", "\u2060", "\ufeff", "\u3164", "\ufe0f", "\u2800", "\U000e0001", " \u200d\u00a0\u202e"]
PASSWORDS = {"password", "current_password", "new_password"}
# By the last step of their path.
MAY_BE_BLANK = {
    **dict.fromkeys(PASSWORDS, "every character of a password counts"),
    "description": "a description may be empty",
    "file": "the bytes of a file",
    "content": "of an imported message; it depends on the role, see tests/api/test_import.py",
    "tool_call_id": "an id that a model made",
    "check": "an id of a check, refused if there is none",
    "object": "of a finding, empty if it has no object",
}


@dataclass(frozen=True)
class Text:
    """A text in the body of a request, and its path in it."""

    operation: str
    path: tuple[str | int, ...]
    schema: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.operation} {'.'.join(map(str, self.path))}"


def texts_in(
    schema: dict[str, Any], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Yield path and schema of each string without a format or fixed values in a schema."""
    schema = resolved(schema)
    types = schema.get("type", [])
    if "string" in ([types] if isinstance(types, str) else types) and not {"enum", "format", "const"} & schema.keys():
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from texts_in(inner, (*path, name))
    if "items" in schema:
        yield from texts_in(schema["items"], (*path, 0))


def texts() -> Iterator[Text]:
    """Yield each text in the bodies of the OpenAPI document."""
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            if method != "parameters":
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    for inner, schema in texts_in(content["schema"]):
                        yield Text(f"{method.upper()} {path}", inner, schema)


TEXTS = list(texts())
CHECKED = [text for text in TEXTS if text.schema.get("pattern") == VISIBLE]


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """Build the application of wsgi.py on the database that `flask_app` has migrated."""
    served = as_served(with_ops_token(settings))
    yield served
    with served.app_context():
        db.engine.dispose()


def excludes_blank(text: Text) -> bool:
    """Return whether the text has a pattern of its own that no blank text matches."""
    pattern = text.schema.get("pattern")
    return pattern is not None and not any(re.search(pattern, blank) for blank in BLANK)


def test_text_is_checked_or_has_a_reason() -> None:
    unchecked = [text for text in TEXTS if text not in CHECKED and not excludes_blank(text)]
    assert {str(text.path[-1]) for text in unchecked} <= MAY_BE_BLANK.keys()
    assert len(CHECKED) > 15


@pytest.mark.parametrize("text", CHECKED, ids=str)
def test_blank_text_is_400(text: Text, served: Flask, make_user: Callable[..., LoggedInUser]) -> None:
    caller = make_user(role="admin")
    method, path = text.operation.split(" ")
    path = path.format(**OwnedObjects(served, caller).ids)
    for blank in BLANK:
        response = served.test_client().open(path, method=method, headers=caller.headers, json=body_with(text, blank))
        assert response.status_code == 400, (blank, response.text)
        assert (response.json or {})["errors"] == {".".join(map(str, text.path)): ["May not be blank."]}, blank
