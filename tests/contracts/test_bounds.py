"""Every number in a request has bounds, and the server accepts both of them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol

import pytest
from flask import Flask

from app.bounds import MAX_HISTORY_MESSAGES
from app.config import Settings
from app.extensions import db
from tests.contracts.application import as_served, offline, with_ops_token
from tests.contracts.fixtures_by_route import OwnedObjects
from tests.factories import LoggedInUser

Step = str | int
DOCUMENT: dict[str, Any] = offline().test_client().get("/openapi.json").json or {}
# Without a broker these requests are rejected before validation; `tests/ops/api/test_indexes.py` tests them.
NEEDS_BROKER = {"POST /api/admin/indexes/apply"}


class Place(Protocol):
    """A place in the body of an operation."""

    @property
    def operation(self) -> str: ...

    @property
    def path(self) -> tuple[Step, ...]: ...


@dataclass(frozen=True)
class Number:
    """A number in a query or a body, and its path in it."""

    operation: str
    location: str
    path: tuple[Step, ...]
    schema: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.operation} {self.location} {'.'.join(map(str, self.path))}"


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Follow the references of a schema."""
    while "$ref" in node:
        node = reduce(lambda inner, key: inner[key], node["$ref"].removeprefix("#/").split("/"), DOCUMENT)
    return node


def numbers_in(
    schema: dict[str, Any], path: tuple[Step, ...] = ()
) -> Iterator[tuple[tuple[Step, ...], dict[str, Any]]]:
    """Yield path and schema of each number in a schema."""
    schema = resolved(schema)
    types = schema.get("type", [])
    if {"integer", "number"} & {*([types] if isinstance(types, str) else types)}:
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from numbers_in(inner, (*path, name))
    if "items" in schema:
        yield from numbers_in(schema["items"], (*path, 0))


def numbers() -> Iterator[Number]:
    """Yield each number in the requests of the OpenAPI document."""
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            name = f"{method.upper()} {path}"
            for parameter in map(resolved, operation["parameters"]):
                for inner, schema in numbers_in(parameter["schema"], (parameter["name"],)):
                    yield Number(name, parameter["in"], inner, schema)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for inner, schema in numbers_in(content["schema"]):
                    yield Number(name, "body", inner, schema)


NUMBERS = list(numbers())


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """Build the application of wsgi.py on the database that `flask_app` has migrated."""
    chat = settings.chat.model_copy(update={"history_messages": MAX_HISTORY_MESSAGES})  # no bound of its own
    served = as_served(with_ops_token(replace(settings, chat=chat)))
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("number", NUMBERS, ids=str)
def test_number_in_request_has_bounds(number: Number) -> None:
    assert {"minimum", "maximum"} <= number.schema.keys()


@pytest.mark.parametrize("bound", ["minimum", "maximum"])
@pytest.mark.parametrize("number", [number for number in NUMBERS if number.operation not in NEEDS_BROKER], ids=str)
def test_number_at_its_bound_is_accepted(
    number: Number, bound: str, served: Flask, make_user: Callable[..., LoggedInUser]
) -> None:
    admin = make_user(role="admin")
    method, path = number.operation.split(" ")
    ids = OwnedObjects(served, admin).ids
    response = served.test_client().open(
        path.format(**ids),
        method=method,
        headers=admin.headers,
        query_string={str(number.path[0]): number.schema[bound]} if number.location == "query" else None,
        json=body_with(number, number.schema[bound]) if number.location == "body" else None,
    )
    # 409: the request is valid, but the server is not ready for it, for example without recorded counters.
    assert response.status_code < 400 or response.status_code == 409, response.text


def has_path(value: Any, path: Sequence[Step]) -> bool:
    """Return whether a JSON value has something at the path."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        else:
            value = value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None
        if value is None:
            return False
    return True


def body_with(place: Place, value: float | str) -> dict[str, Any]:
    """Return an example of the operation's body with `value` at the place's path: the first that has its parents."""
    method, path = place.operation.split(" ")
    [content] = DOCUMENT["paths"][path][method.lower()]["requestBody"]["content"].values()
    *parents, last = place.path
    examples = resolved(content["schema"])["examples"]
    fitting = (example for example in examples if has_path(example, parents))
    body: dict[str, Any] = copy.deepcopy(next(fitting, examples[0]))
    node: Any = body
    for step in parents:
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
    node[last] = value
    return body


@pytest.mark.parametrize(("last_event_id", "status"), [("0", 200), ("9999999999", 204)])
def test_last_event_id_at_its_bound_is_accepted(
    last_event_id: str, status: int, served: Flask, user: LoggedInUser
) -> None:
    turn_id = OwnedObjects(served, user).ids["turn_id"]
    headers = {**user.headers, "Last-Event-ID": last_event_id}
    assert served.test_client().get(f"/api/turns/{turn_id}/events", headers=headers).status_code == status
