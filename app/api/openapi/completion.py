"""Completion of the description: access, errors and headers of each operation, and required properties."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from apispec import APISpec, BasePlugin
from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from app.api.access import Access
from app.api.blueprint import RAISES, Blueprint
from app.api.openapi import problems
from app.api.openapi.descriptions import describe_common, describe_path_parameters
from app.api.openapi.events import event_schema, event_schemas, name_of
from app.api.openapi.general import HEADERS, LIMIT_HEADERS, PARAMETERS, SECURITY_SCHEMES, access_sentence, security
from app.api.openapi.names import OPERATION_IDS, name_enumerations
from app.api.schemas.events import EVENT, EVENTS
from app.encoding import encode_json
from app.enums import KeyScope
from app.errors import (
    DatabaseUnavailable,
    InvalidInput,
    Locked,
    NotAuthenticated,
    NotFound,
    ParleyError,
    PermissionDenied,
    RateLimited,
    TooLarge,
)

OPTIONAL = "x-optional"  # in a field's metadata: may be absent from a response
_REQUEST_ID = {"$ref": "#/components/headers/RequestId"}


class Completion(BasePlugin):
    """An apispec plugin that runs after those of flask-smorest."""

    def __init__(self, flask_app: Flask) -> None:
        self._flask_app = flask_app
        self._kinds: dict[str, list[problems.Kind]] = {}  # of the error responses, by name

    def init_spec(self, spec: APISpec) -> None:
        super().init_spec(spec)
        self._spec = spec
        for name, scheme in SECURITY_SCHEMES.items():
            spec.components.security_scheme(name, scheme)
        for name, parameter in PARAMETERS.items():
            spec.components.parameter(name, "header", {**parameter})
        for name, header in HEADERS.items():
            spec.components.header(name, {**header})
        spec.components.schema(problems.PROBLEM, problems.problem_schema())
        for data in dict.fromkeys(schema for alternatives in EVENTS.values() for schema in alternatives):
            spec.components.schema(name_of(data), schema=data)
        for name, schema in event_schemas().items():
            spec.components.schema(name, schema)
        spec.components.schema(EVENT, event_schema())

    def schema_helper(self, name: str, definition: Any, **options: Any) -> dict[str, Any]:
        """Return the docstring and the examples of a schema class."""
        schema: type[Schema] | Schema | None = options.get("schema")
        own = vars(schema if isinstance(schema, type) else type(schema))  # without inherited attributes
        additions = {"description": _first_paragraph(own.get("__doc__")), "examples": own.get("EXAMPLES")}
        return {name: value for name, value in additions.items() if value}

    def operation_helper(self, path: str | None = None, operations: Any = None, **options: Any) -> None:
        """Complete the operations of one path in place."""
        rule: Rule = options["rule"]
        blueprint = cast(Blueprint, self._flask_app.blueprints[rule.endpoint.rpartition(".")[0]])
        for method, operation in operations.items():
            self._identify(operation, method, rule)
            _admit(operation, blueprint.access, blueprint.scope_of(method.upper()))
            _tidy_arguments(self._spec, operation)
            kinds = {*_implied(blueprint.access, rule, operation), *operation.pop(RAISES, ())}
            if blueprint.limited:
                kinds.add(RateLimited)
            self._add_responses(operation, problems.by_status(kinds), LIMIT_HEADERS if blueprint.limited else ())

    def _identify(self, operation: dict[str, Any], method: str, rule: Rule) -> None:
        """Set the operation id, for generated clients, and the summary.

        The id is the name of the view function, or the method and the name of the view class, unless
        `OPERATION_IDS` has a better one.
        """
        operation["summary"] = operation.get("summary", "").removesuffix(".")
        view = self._flask_app.view_functions[rule.endpoint]
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rule.endpoint.rpartition(".")[2]).lower()
        default = f"{method}_{name}" if hasattr(view, "view_class") else name
        operation.setdefault("operationId", OPERATION_IDS.get(default, default))

    def _add_responses(
        self, operation: dict[str, Any], kinds: dict[int, list[problems.Kind]], headers: Iterable[str]
    ) -> None:
        limits = {name: {"$ref": f"#/components/headers/{name.replace('-', '')}"} for name in headers}
        responses = {int(status): response for status, response in operation.get("responses", {}).items()}
        for response in responses.values():
            if isinstance(response, dict):
                response["headers"] = {**response.get("headers", {}), "X-Request-ID": _REQUEST_ID, **limits}
        for status, of_status in kinds.items():
            name = problems.name_of(of_status)
            if self._kinds.setdefault(name, of_status) != of_status:
                raise ValueError(f"{name} names two error responses: add one to PROBLEMS in app/api/openapi/names.py")
            if name not in self._spec.components.responses:
                self._spec.components.schema(*problems.narrowed_schema(status, of_status))
                self._spec.components.response(name, problems.response(status, of_status))
            if not isinstance(responses.get(status), dict):  # a view's own declaration has precedence
                responses[status] = name
        operation["responses"] = {str(status): responses[status] for status in sorted(responses)}
        # apispec turns the names into references.
        operation["parameters"] = [*operation.get("parameters", ()), *PARAMETERS]


def _admit(operation: dict[str, Any], access: Access, scope: KeyScope | None) -> None:
    """Describe the access, unless the view declares its own `security`."""
    if "security" not in operation:
        operation["security"] = security(access, scope)
        operation["description"] = "\n\n".join(
            filter(None, [operation.get("description"), access_sentence(access, scope)])
        )


def _implied(access: Access, rule: Rule, operation: dict[str, Any]) -> Iterator[problems.Kind]:
    """Yield the errors that follow from the operation's access, route and arguments."""
    yield ParleyError
    if access is not Access.PUBLIC:
        yield from (NotAuthenticated, PermissionDenied)
        if access is not Access.OPS:  # callers are authenticated in the database
            yield from (DatabaseUnavailable, Locked)
    if rule.arguments:
        yield NotFound
    if operation.get("parameters") or "requestBody" in operation:
        yield InvalidInput
    if "requestBody" in operation:
        yield TooLarge


def _tidy_arguments(spec: APISpec, operation: dict[str, Any]) -> None:
    """Remove null from query parameters, which cannot send it, and make bodies without required fields optional."""
    for parameter in operation.get("parameters", ()):
        schema = parameter.get("schema", {})
        if parameter["in"] == "query" and isinstance(schema.get("type"), list):
            [schema["type"]] = [kind for kind in schema["type"] if kind != "null"]
            if schema.get("default", ...) is None:
                del schema["default"]
    if body := operation.get("requestBody"):
        names = [content.get("schema", {}).get("$ref", "").rpartition("/")[2] for content in body["content"].values()]
        body["required"] = any("required" in spec.components.schemas.get(name, ("required",)) for name in names)


def complete(spec: APISpec) -> dict[str, Any]:
    """Return the complete document.

    In schemas that only responses use, all properties are required, except those marked OPTIONAL: marshmallow's
    `required` only applies to requests. Schemas without references are removed.
    """
    paths, schemas = spec.to_dict()["paths"], spec.components.schemas
    bodies = [operation.get("requestBody") for path in paths.values() for operation in _operations(path)]
    in_requests = _collect(bodies, schemas, set())
    used = _collect([paths, spec.components.responses], schemas, {problems.PROBLEM})
    for name in list(schemas):
        if name not in used:
            del schemas[name]
        elif name not in in_requests and "required" not in schemas[name] and "properties" in schemas[name]:
            properties = schemas[name]["properties"]
            schemas[name]["required"] = [key for key, field in properties.items() if not field.pop(OPTIONAL, False)]
    for name in in_requests:
        _describe_defaults(schemas[name])
    document: dict[str, Any] = spec.to_dict()
    for path in document["paths"].values():
        describe_path_parameters(path.get("parameters", []))
    name_enumerations(document)
    describe_common(document["components"]["schemas"])
    return document


def _describe_defaults(schema: dict[str, Any]) -> None:
    """Move the defaults of a request body's properties into their descriptions.

    openapi-typescript requires properties with a default, so a body of the required ones would not compile.
    """
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default is not None:
            text = encode_json(default).decode()
            field["description"] = f"{field.get('description', '')} Default: `{text}`.".strip()


def _operations(path: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for method, operation in path.items() if method != "parameters"]


def _collect(node: Any, schemas: dict[str, Any], names: set[str]) -> set[str]:
    """Add the names of all schemas that `node` refers to, directly or indirectly, to `names`, and return it."""
    if isinstance(node, list):
        for inner in node:
            _collect(inner, schemas, names)
    elif isinstance(node, dict):
        name = str(node.get("$ref", "")).removeprefix("#/components/schemas/")
        if name in schemas and name not in names:
            names.add(name)
            _collect(schemas[name], schemas, names)
        for inner in node.values():
            _collect(inner, schemas, names)
    return names


def _first_paragraph(text: str | None) -> str | None:
    return " ".join(text.split("\n\n")[0].split()) if text else None
