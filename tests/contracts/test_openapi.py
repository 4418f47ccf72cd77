"""The OpenAPI document: valid, complete and consistent with the server."""

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
from app.enums import TurnStatus
from app.errors import ParleyError, SettingsError
from app.factory import create_app
from app.ids import new_id
from app.models import Project
from tests.api.conftest import events_of
from tests.contracts.application import ROOT, blueprint_of, offline, offline_settings, path_of
from tests.factories import LoggedInUser

UNCHANGED = 304
WITHOUT_CONTENT = {204, UNCHANGED}
OTHER_PROTOCOLS = {("POST", "/mcp")}  # described in docs/mcp.md
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
    """One method of one path, with its references resolved."""

    name: str
    method: str
    path: str
    operation: dict[str, Any]
    parameters: list[dict[str, Any]]
    responses: dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return list(operations_of(document))


def operations_of(document: dict[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method, operation in item.items():
            if method != "parameters":
                yield Operation(
                    f"{method.upper()} {path}",
                    method.upper(),
                    path,
                    operation,
                    [resolved(document, parameter) for parameter in (*shared, *operation["parameters"])],
                    {int(status): resolved(document, each) for status, each in operation["responses"].items()},
                )


def resolved(document: dict[str, Any], node: Any) -> Any:
    """Return `node`, or the component that it refers to."""
    while "$ref" in node:
        section, name = node["$ref"].removeprefix("#/components/").split("/")
        node = document["components"][section][name]
    return node


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Return a validator of `schema`, which may refer to components of the document."""
    standalone = {**schema, "components": document["components"]}
    return jsonschema.Draft202012Validator(standalone, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_document_has_exactly_the_routes(served: Flask, operations: list[Operation]) -> None:
    routes = {
        (method, path_of(rule)) for rule in served.url_map.iter_rules() for method in (rule.methods or set()) & METHODS
    }
    assert {(operation.method, operation.path) for operation in operations} == routes - OTHER_PROTOCOLS


def test_operation_has_unique_id_and_summary(document: dict[str, Any], operations: list[Operation]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    incomplete = [
        operation.name
        for operation in operations
        if not (operation.operation.get("summary") and operation.operation.get("description"))
        or len(operation.operation["summary"]) > 120
        or not set(operation.operation["tags"]) <= tags
    ]
    assert incomplete == []
    names = [operation.operation["operationId"] for operation in operations]
    assert sorted(names) == sorted(set(names))


def test_security_matches_blueprints(served: Flask, operations: list[Operation]) -> None:
    opened: dict[str, list[dict[str, list[str]]]] = {
        "public": [],
        "ops": [{"opsToken": []}],
        "session": [{"accessToken": []}],
        "ticket": [{"accessToken": []}, {"apiKey": []}, {"turnTicket": []}],
    }
    blueprints = {path_of(rule): blueprint_of(served, rule) for rule in served.url_map.iter_rules()}
    mismatches = {}
    for operation in operations:
        blueprint = blueprints[operation.path]
        expected = opened.get(blueprint.access.value, [{"accessToken": []}, {"apiKey": []}])
        if operation.operation["security"] != expected:
            mismatches[operation.name] = operation.operation["security"]
        scope = blueprint.scope_of(operation.method)
        if scope and f"`{scope}`" not in operation.operation["description"]:
            mismatches[operation.name] = scope
    # The view itself reads the refresh token.
    assert mismatches == {"POST /api/auth/refresh": [{"refreshToken": []}]}


def test_parameters_and_body_fields_have_bounds(document: dict[str, Any], operations: list[Operation]) -> None:
    """Ids in paths are bounded by their format, and headers by the HTTP server."""
    unbounded = [
        f"{operation.name} {parameter['name']}"
        for operation in operations
        for parameter in operation.parameters
        if parameter["in"] == "query" and not _bounded(resolved(document, parameter["schema"]))
    ]
    for operation in operations:
        for content in operation.operation.get("requestBody", {}).get("content", {}).values():
            body = resolved(document, content["schema"])
            unbounded += [
                f"{operation.name} {name}"
                for name, schema in body.get("properties", {}).items()
                if not _bounded(resolved(document, schema))
            ]
    assert unbounded == []


def _bounded(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", [])
    kind = kinds if isinstance(kinds, str) else next((name for name in kinds if name != "null"), None)
    if kind == "string":
        return bool({"maxLength", "enum", "pattern"} & set(schema)) or schema.get("format") == "uuid"
    if kind in ("integer", "number"):
        return {"minimum", "maximum"} <= set(schema)
    if kind == "array":
        return "maxItems" in schema
    return True  # objects are bounded by their properties or by a validator


def test_response_has_description_and_schema(operations: list[Operation]) -> None:
    incomplete = [
        f"{operation.name} {status}"
        for operation in operations
        for status, response in operation.responses.items()
        if not response["description"]
        or "X-Request-ID" not in response["headers"]
        or (status not in WITHOUT_CONTENT) != bool(response.get("content"))
        or not all(content.get("schema") for content in response.get("content", {}).values())
    ]
    assert incomplete == []
    assert [operation.name for operation in operations if not any(200 <= s < 300 for s in operation.responses)] == []


def test_error_responses_are_problems(operations: list[Operation]) -> None:
    exceptions = {  # /health has the same schema for both statuses
        "GET /health 503",
        "GET /health/ready 503",
    }
    responses = {
        f"{operation.name} {status}"
        for operation in operations
        for status, response in operation.responses.items()
        if status >= 400 and set(response["content"]) != {problems.MEDIA_TYPE}
    }
    assert responses == exceptions
    assert {status for operation in operations for status in operation.responses if status >= 400} <= set(
        STATUS.values()
    )


def test_codes_match_error_tree(document: dict[str, Any]) -> None:
    def below(kind: type[ParleyError]) -> Iterator[type[ParleyError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    codes = {kind.code for kind in below(ParleyError)} - {SettingsError.code}
    assert set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == {
        *codes,
        "method_not_allowed",
    }


def test_implied_statuses_are_listed(operations: list[Operation]) -> None:
    """The expected statuses follow from the document alone."""
    missing = []
    for operation in operations:
        expected = {500}
        if operation.operation["security"]:
            expected |= {401}
        if {"apiKey", "accessToken"} & {
            name for requirement in operation.operation["security"] for name in requirement
        }:
            expected |= {401, 403, 503}
        if "{" in operation.path:
            expected |= {404}
        if "requestBody" in operation.operation:
            expected |= {400, 413}
        if any(parameter["in"] == "query" for parameter in operation.parameters):
            expected |= {400}
        if lacking := expected - set(operation.responses):
            missing.append(f"{operation.name} {lacking}")
        assert "default" not in operation.operation["responses"]
    assert missing == []


def test_chat_lists_all_statuses(operations: list[Operation]) -> None:
    for operation in operations:
        if operation.path.endswith("/chat"):
            assert set(operation.responses) == {200, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504, 507}
            assert set(operation.responses[200]["content"]) == {"application/json", "text/event-stream"}


def test_examples_match_their_schemas(document: dict[str, Any], operations: list[Operation]) -> None:
    errors, count = [], 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            count += 1
            errors += [f"{name}: {error.message}" for error in validator(document, schema).iter_errors(example)]
    for operation in operations:
        for status, response in operation.responses.items():
            for content in response.get("content", {}).values():
                check = validator(document, content["schema"])
                for example in content.get("examples", {}).values():
                    count += 1
                    errors += [f"{operation.name} {status}: {e.message}" for e in check.iter_errors(example["value"])]
    assert errors == []
    assert count > 100


def test_request_bodies_have_examples(document: dict[str, Any], operations: list[Operation]) -> None:
    without = [
        operation.name
        for operation in operations
        for content in operation.operation.get("requestBody", {}).get("content", {}).values()
        if not resolved(document, content["schema"]).get("examples") and not content.get("example")
    ]
    assert without == []


def test_components_are_referenced(document: dict[str, Any]) -> None:
    text = orjson.dumps(document).decode()
    unused = [
        f"{section}/{name}"
        for section in ("schemas", "responses", "parameters", "headers")
        for name in document["components"][section]
        if f'"#/components/{section}/{name}"' not in text and name != "Problem"  # the type of all errors
    ]
    assert unused == []


def _event_names() -> set[str]:
    """Return the event names in the source of app.turns."""
    names = set()
    for path in (ROOT / "app" / "turns").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(r"^(?:turn|message|tool)\.[a-z]+$", node.value))
    return names


def test_events_match_source_of_turns() -> None:
    ends = {f"turn.{status}" for status in TurnStatus if status is not TurnStatus.RUNNING}
    assert _event_names() | ends == set(EVENTS)


def test_failed_turn_matches_event_schemas(
    flask_app: Flask, engine: Engine, user: LoggedInUser, document: dict[str, Any]
) -> None:
    """With a provider that this server does not have; the schemathesis tests have turns that succeed."""
    project = {"user_id": user.id, "id": new_id(), "name": "Elsewhere", "provider": "openrouter", "settings": {}}
    with engine.begin() as connection:
        connection.execute(insert(Project).values(**project))
    body = {"message": "hello", "project_id": str(project["id"]), "stream": True}
    response = flask_app.test_client().post("/api/chat", json=body, headers=user.headers)
    events = events_of(response)
    assert [kind for _, kind, _ in events] == ["turn.started", "turn.failed"]
    schema = document["components"]["schemas"]["TurnEvent"]
    for sequence, kind, data in events:
        event = {"id": str(sequence), "event": kind, "data": orjson.dumps(data).decode()}
        validator(document, schema).validate(event)
        alternatives = [resolved(document, alternative) for alternative in schema["oneOf"]]
        [described] = [
            alternative for alternative in alternatives if alternative["properties"]["event"]["const"] == kind
        ]
        validator(document, described["properties"]["data"]["contentSchema"]).validate(data)


def test_unchanged_document_is_304(served: Flask) -> None:
    client = served.test_client()
    first = client.get("/openapi.json")
    assert first.headers["Cache-Control"] == "no-cache"
    repeated = client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (repeated.status_code, repeated.data) == (UNCHANGED, b"")


def test_two_applications_have_own_documents() -> None:
    extra = Blueprint("extra", __name__, access=Access.PUBLIC, description="Another")

    @extra.route("/extra")
    @extra.response(204)
    def empty_response() -> None:
        """Do nothing."""

    applications = create_app(offline_settings()), create_app(offline_settings(), [extra])
    answers = [application.test_client().get("/openapi.json").json for application in applications]
    assert ["/extra" in answer["paths"] for answer in answers if answer] == [False, True]


def test_the_command_line_prints_the_same(document: dict[str, Any]) -> None:
    printed = offline().test_cli_runner().invoke(args=["openapi", "print"])
    assert orjson.loads(printed.output) == document
