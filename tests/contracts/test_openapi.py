"""The description at /openapi.json: valid, complete, and of what the server does."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import jsonschema
import orjson
import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy import Engine, insert

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.errors import STATUS
from app.api.openapi import problems
from app.api.schemas.events import EVENTS
from app.errors import ParleyError, SettingsError
from app.factory import create_app
from app.models import Project
from app.models.columns import new_id
from app.models.turn import TurnStatus
from tests.api.conftest import events_of
from tests.contracts.application import ROOT, blueprint_of, offline, offline_settings, path_of
from tests.factories import Account

UNCHANGED = 304
WITHOUT_CONTENT = {204, UNCHANGED}
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}  # HEAD and OPTIONS are Flask's


@pytest.fixture(scope="module")
def served() -> Flask:
    return offline()


@pytest.fixture(scope="module")
def document(served: Flask) -> dict[str, Any]:
    response = served.test_client().get("/openapi.json")
    assert response.status_code == 200
    return cast("dict[str, Any]", response.json)


@dataclass(frozen=True)
class Operation:
    """One method of one path, with the components that it refers to in place."""

    name: str
    method: str
    path: str
    told: dict[str, Any]
    parameters: list[dict[str, Any]]
    responses: dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return list(operations_of(document))


def operations_of(document: dict[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method, told in item.items():
            if method != "parameters":
                yield Operation(
                    f"{method.upper()} {path}",
                    method.upper(),
                    path,
                    told,
                    [resolved(document, parameter) for parameter in (*shared, *told["parameters"])],
                    {int(status): resolved(document, each) for status, each in told["responses"].items()},
                )


def resolved(document: dict[str, Any], node: Any) -> Any:
    """`node`, or what it refers to."""
    while "$ref" in node:
        section, name = node["$ref"].removeprefix("#/components/").split("/")
        node = document["components"][section][name]
    return node


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Of `schema`, which may refer to the document's components."""
    whole = {**schema, "components": document["components"]}
    return jsonschema.Draft202012Validator(whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def test_it_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_it_has_every_route_and_no_other(served: Flask, operations: list[Operation]) -> None:
    routes = {
        (method, path_of(rule)) for rule in served.url_map.iter_rules() for method in (rule.methods or set()) & METHODS
    }
    assert {(operation.method, operation.path) for operation in operations} == routes


def test_every_operation_has_a_name_and_a_line(document: dict[str, Any], operations: list[Operation]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    bare = [
        operation.name
        for operation in operations
        if not (operation.told.get("summary") and operation.told.get("description"))
        or len(operation.told["summary"]) > 120
        or not set(operation.told["tags"]) <= tags
    ]
    assert bare == []
    names = [operation.told["operationId"] for operation in operations]
    assert sorted(names) == sorted(set(names))


def test_security_is_what_the_blueprints_declare(served: Flask, operations: list[Operation]) -> None:
    opened: dict[str, list[dict[str, list[str]]]] = {
        "public": [],
        "ops": [{"opsToken": []}],
        "person": [{"accessToken": []}],
    }
    blueprints = {path_of(rule): blueprint_of(served, rule) for rule in served.url_map.iter_rules()}
    wrong = {}
    for operation in operations:
        blueprint = blueprints[operation.path]
        expected = opened.get(blueprint.access.value, [{"accessToken": []}, {"apiKey": []}])
        if operation.told["security"] != expected:
            wrong[operation.name] = operation.told["security"]
        scope = blueprint.scope_of(operation.method)
        if scope and f"`{scope}`" not in operation.told["description"]:
            wrong[operation.name] = scope
    # A refresh token is read by the view itself: nothing else may be sent there.
    assert wrong == {"POST /api/auth/refresh": [{"refreshToken": []}]}


def test_parameters_and_bodies_have_bounds(document: dict[str, Any], operations: list[Operation]) -> None:
    """An id in the path is bounded by its form, and a header by what HTTP servers take."""
    unbounded = [
        f"{operation.name} {parameter['name']}"
        for operation in operations
        for parameter in operation.parameters
        if parameter["in"] == "query" and not _bounded(resolved(document, parameter["schema"]))
    ]
    for operation in operations:
        for content in operation.told.get("requestBody", {}).get("content", {}).values():
            body = resolved(document, content["schema"])
            unbounded += [
                f"{operation.name} {name}"
                for name, schema in body.get("properties", {}).items()
                if not _bounded(resolved(document, schema))
            ]
    assert unbounded == []


def _bounded(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", [])
    kind = kinds if isinstance(kinds, str) else next((each for each in kinds if each != "null"), None)
    if kind == "string":
        return bool({"maxLength", "enum", "pattern"} & set(schema)) or schema.get("format") == "uuid"
    if kind in ("integer", "number"):
        return {"minimum", "maximum"} <= set(schema)
    if kind == "array":
        return "maxItems" in schema
    return True  # objects are bounded by their properties, or by a check of their own


def test_every_answer_says_what_it_is(operations: list[Operation]) -> None:
    mute = [
        f"{operation.name} {status}"
        for operation in operations
        for status, response in operation.responses.items()
        if not response["description"]
        or "X-Request-ID" not in response["headers"]
        or (status not in WITHOUT_CONTENT) != bool(response.get("content"))
        or not all(content.get("schema") for content in response.get("content", {}).values())
    ]
    assert mute == []
    assert [operation.name for operation in operations if not any(200 <= s < 300 for s in operation.responses)] == []


def test_every_error_is_a_problem(operations: list[Operation]) -> None:
    own = {  # /health answers the same way whether it is well or not
        "GET /health 503",
        "GET /health/ready 503",
    }
    found = {
        f"{operation.name} {status}"
        for operation in operations
        for status, response in operation.responses.items()
        if status >= 400 and set(response["content"]) != {problems.MEDIA_TYPE}
    }
    assert found == own
    assert {status for operation in operations for status in operation.responses if status >= 400} <= set(
        STATUS.values()
    )


def test_the_codes_are_those_of_the_error_tree(document: dict[str, Any]) -> None:
    def below(kind: type[ParleyError]) -> Iterator[type[ParleyError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    codes = {kind.code for kind in below(ParleyError)} - {SettingsError.code}
    assert set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == {
        *codes,
        "method_not_allowed",
    }


def test_what_follows_from_a_declaration_is_there(operations: list[Operation]) -> None:
    """Statuses by what the operation is: asked here from the document alone."""
    missing = []
    for operation in operations:
        expected = {500}
        if operation.told["security"]:
            expected |= {401}
        if {"apiKey", "accessToken"} & {name for each in operation.told["security"] for name in each}:
            expected |= {401, 403, 503}
        if "{" in operation.path:
            expected |= {404}
        if "requestBody" in operation.told:
            expected |= {400, 413}
        if any(parameter["in"] == "query" for parameter in operation.parameters):
            expected |= {400}
        if lacking := expected - set(operation.responses):
            missing.append(f"{operation.name} {lacking}")
        assert "default" not in operation.told["responses"]
    assert missing == []


def test_a_turn_can_fail_in_all_its_ways(operations: list[Operation]) -> None:
    for operation in operations:
        if operation.path.endswith("/chat"):
            assert set(operation.responses) == {200, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504}
            assert set(operation.responses[200]["content"]) == {"application/json", "text/event-stream"}


def test_examples_are_what_they_are_examples_of(document: dict[str, Any], operations: list[Operation]) -> None:
    wrong, seen = [], 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            seen += 1
            wrong += [f"{name}: {error.message}" for error in validator(document, schema).iter_errors(example)]
    for operation in operations:
        for status, response in operation.responses.items():
            for content in response.get("content", {}).values():
                check = validator(document, content["schema"])
                for example in content.get("examples", {}).values():
                    seen += 1
                    wrong += [f"{operation.name} {status}: {e.message}" for e in check.iter_errors(example["value"])]
    assert wrong == []
    assert seen > 100


def test_the_main_bodies_have_examples(document: dict[str, Any], operations: list[Operation]) -> None:
    without = [
        operation.name
        for operation in operations
        for content in operation.told.get("requestBody", {}).get("content", {}).values()
        if not resolved(document, content["schema"]).get("examples") and not content.get("example")
    ]
    assert without == []


def test_nothing_is_said_that_nobody_refers_to(document: dict[str, Any]) -> None:
    text = orjson.dumps(document).decode()
    unused = [
        f"{section}/{name}"
        for section in ("schemas", "responses", "parameters", "headers")
        for name in document["components"][section]
        if f'"#/components/{section}/{name}"' not in text
    ]
    assert unused == []


def _said() -> set[str]:
    """The kinds of events that the services tell, as their source has them."""
    found = set()
    for path in (ROOT / "app" / "services").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"^(?:turn|message|tool)\.[a-z]+$", node.value))
    return found


def test_the_events_are_those_that_turns_tell() -> None:
    ends = {f"turn.{status}" for status in TurnStatus if status is not TurnStatus.RUNNING}
    assert _said() | ends == set(EVENTS)


def test_a_turn_that_fails_tells_what_is_described(
    flask_app: Flask, engine: Engine, user: Account, document: dict[str, Any]
) -> None:
    """Of a provider that this server does not have; turns that go well are told in the tests by schemathesis."""
    project = {"user_id": user.id, "id": new_id(), "name": "Elsewhere", "provider": "openrouter", "settings": {}}
    with engine.begin() as connection:
        connection.execute(insert(Project).values(**project))
    body = {"message": "hello", "project_id": str(project["id"]), "stream": True}
    response = flask_app.test_client().post("/api/chat", json=body, headers=user.headers)
    told = events_of(response)
    assert [kind for _, kind, _ in told] == ["turn.started", "turn.failed"]
    schema = document["components"]["schemas"]["TurnEvent"]
    for sequence, kind, data in told:
        event = {"id": str(sequence), "event": kind, "data": orjson.dumps(data).decode()}
        validator(document, schema).validate(event)
        [described] = [each for each in schema["oneOf"] if each["title"] == kind]
        validator(document, described["properties"]["data"]["contentSchema"]).validate(data)


def test_it_is_sent_again_only_when_it_has_changed(served: Flask) -> None:
    client = served.test_client()
    first = client.get("/openapi.json")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (UNCHANGED, b"")


def test_two_applications_of_one_process_describe_themselves() -> None:
    extra = Blueprint("extra", __name__, access=Access.PUBLIC, description="Another")

    @extra.route("/extra")
    @extra.response(204)
    def nothing() -> None:
        """Nothing"""

    applications = create_app(offline_settings()), create_app(offline_settings(), [extra])
    answers = [application.test_client().get("/openapi.json").json for application in applications]
    assert ["/extra" in answer["paths"] for answer in answers if answer] == [False, True]


def test_the_command_line_prints_the_same(document: dict[str, Any]) -> None:
    printed = offline().test_cli_runner().invoke(args=["openapi", "print"])
    assert orjson.loads(printed.output) == document
