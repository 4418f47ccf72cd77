"""Adds to each operation what is declared elsewhere, and to the finished document what only the whole of it tells."""

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
from app.api.openapi.events import event_schema, name_of
from app.api.openapi.general import HEADERS, LIMIT_HEADERS, PARAMETERS, SECURITY_SCHEMES, security, who
from app.api.schemas.events import EVENT, EVENTS
from app.errors import (
    DatabaseUnavailable,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    ParleyError,
    RateLimited,
    TooLarge,
)
from app.models import KeyScope

OPTIONAL = "x-optional"  # in a field's metadata: an answer may lack it
_REQUEST_ID = {"$ref": "#/components/headers/RequestId"}


class Completion(BasePlugin):
    """An apispec plugin; flask-smorest's own have done their part when this one is asked."""

    def __init__(self, flask_app: Flask) -> None:
        self._flask_app = flask_app

    def init_spec(self, spec: APISpec) -> None:
        super().init_spec(spec)
        self._spec = spec
        for name, scheme in SECURITY_SCHEMES.items():
            spec.components.security_scheme(name, scheme)
        for name, parameter in PARAMETERS.items():
            spec.components.parameter(name, "header", {**parameter})
        for name, header in HEADERS.items():
            spec.components.header(name, {**header})
        spec.components.schema("Problem", problems.problem_schema())
        for data in dict.fromkeys(each for alternatives in EVENTS.values() for each in alternatives):
            spec.components.schema(name_of(data), schema=data)
        spec.components.schema(EVENT, event_schema())

    def schema_helper(self, name: str, definition: Any, **options: Any) -> dict[str, Any]:
        """The docstring and the example of a schema class of ours."""
        schema: type[Schema] | Schema | None = options.get("schema")
        own = vars(schema if isinstance(schema, type) else type(schema))
        found = {"description": _first_paragraph(own.get("__doc__")), "examples": own.get("EXAMPLES")}
        return {name: value for name, value in found.items() if value}

    def operation_helper(self, path: str | None = None, operations: Any = None, **options: Any) -> None:
        """Complete the operations of one path, in place."""
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
        """A name for programs that are generated from this: the function's, or the method and the class."""
        view = self._flask_app.view_functions[rule.endpoint]
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rule.endpoint.rpartition(".")[2]).lower()
        operation.setdefault("operationId", f"{method}_{name}" if hasattr(view, "view_class") else name)

    def _add_responses(
        self, operation: dict[str, Any], kinds: dict[int, list[problems.Kind]], headers: Iterable[str]
    ) -> None:
        limits = {name: {"$ref": f"#/components/headers/{name.replace('-', '')}"} for name in headers}
        answers = {int(status): answer for status, answer in operation.get("responses", {}).items()}
        for answer in answers.values():
            if isinstance(answer, dict):
                answer["headers"] = {**answer.get("headers", {}), "X-Request-ID": _REQUEST_ID, **limits}
        for status, of_status in kinds.items():
            name = problems.name_of(of_status)
            if name not in self._spec.components.responses:
                self._spec.components.response(name, problems.response(status, of_status))
            if not isinstance(answers.get(status), dict):  # a view's own words are better
                answers[status] = name
        operation["responses"] = {str(status): answers[status] for status in sorted(answers)}
        # By their names: apispec makes references of them.
        operation["parameters"] = [*operation.get("parameters", ()), *PARAMETERS]


def _admit(operation: dict[str, Any], access: Access, scope: KeyScope | None) -> None:
    """Who may do this; a view that says so itself knows better."""
    if "security" not in operation:
        operation["security"] = security(access, scope)
        operation["description"] = "\n\n".join(filter(None, [operation.get("description"), who(access, scope)]))


def _implied(access: Access, rule: Rule, operation: dict[str, Any]) -> Iterator[problems.Kind]:
    """The errors that follow from what the operation is."""
    yield ParleyError
    if access is not Access.PUBLIC:
        yield from (NotAuthenticated, NotAllowed)
        if access is not Access.OPS:  # who the caller is, the database knows
            yield DatabaseUnavailable
    if rule.arguments:
        yield NotFound
    if operation.get("parameters") or "requestBody" in operation:
        yield InvalidInput
    if "requestBody" in operation:
        yield TooLarge


def _tidy_arguments(spec: APISpec, operation: dict[str, Any]) -> None:
    """A query has no null, whatever a schema says of an absent value; and a body may be left out if nothing in it is
    required."""
    for parameter in operation.get("parameters", ()):
        schema = parameter.get("schema", {})
        if parameter["in"] == "query" and isinstance(schema.get("type"), list):
            [schema["type"]] = [kind for kind in schema["type"] if kind != "null"]
            if schema.get("default", ...) is None:
                del schema["default"]
    if body := operation.get("requestBody"):
        of = [content.get("schema", {}).get("$ref", "").rpartition("/")[2] for content in body["content"].values()]
        body["required"] = any("required" in spec.components.schemas.get(name, ("required",)) for name in of)


def complete(spec: APISpec) -> dict[str, Any]:
    """The finished document.

    Of what is only ever answered every property is there, unless its field says otherwise: marshmallow's `required` is
    about what is sent. What nothing refers to is left out.
    """
    paths, schemas = spec.to_dict()["paths"], spec.components.schemas
    bodies = [operation.get("requestBody") for path in paths.values() for operation in _operations(path)]
    asked = _collect(bodies, schemas, set())
    used = _collect([paths, spec.components.responses], schemas, set())
    for name in list(schemas):
        if name not in used:
            del schemas[name]
        elif name not in asked and "required" not in schemas[name] and "properties" in schemas[name]:
            properties = schemas[name]["properties"]
            schemas[name]["required"] = [key for key, field in properties.items() if not field.pop(OPTIONAL, False)]
    document: dict[str, Any] = spec.to_dict()
    return document


def _operations(path: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for method, operation in path.items() if method != "parameters"]


def _collect(node: Any, schemas: dict[str, Any], names: set[str]) -> set[str]:
    """Add to `names` those of the schemas that `node` refers to, and those that these refer to."""
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
