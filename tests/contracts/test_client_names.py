"""The OpenAPI document as generators of clients need it: typed errors, named enumerations, one style of ids."""

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from app.api.openapi.names import ENUMERATIONS, OPERATION_IDS, PROBLEMS, problem_name
from app.errors import NotFound
from tests.contracts.application import ROOT, offline

VERBS = {
    *(
        "allow",
        "apply",
        "approve",
        "archive",
        "cancel",
        "change",
        "choose",
        "complete",
        "create",
        "delete",
        "disable",
        "disallow",
        "download",
        "drill",
        "enable",
        "end",
        "erase",
    ),
    *("export", "get", "import", "list", "pause", "prune", "publish", "purge", "read", "refresh", "register"),
    *(
        "reset",
        "restore",
        "resume",
        "retry",
        "rotate",
        "run",
        "send",
        "set",
        "test",
        "unarchive",
        "undo",
        "update",
        "upload",
        "verify",
    ),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return cast("dict[str, Any]", offline().test_client().get("/openapi.json").json)


def operation_ids(document: dict[str, Any]) -> list[str]:
    items = [item for path in document["paths"].values() for item in path.items()]
    return [operation["operationId"] for method, operation in items if method != "parameters"]


def test_operation_id_is_verb_and_object(document: dict[str, Any]) -> None:
    """Name a view by a verb and an object, or add its id to `OPERATION_IDS` in app/api/openapi/names.py."""
    ids = operation_ids(document)
    assert [id_ for id_ in ids if not re.fullmatch(rf"(?:{'|'.join(VERBS)})(?:_[a-z]+)+", id_)] == []
    assert set(OPERATION_IDS.values()) - set(ids) == set()


def enumerations(node: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict):
        if isinstance(node.get("enum"), list):
            yield tuple(value for value in node["enum"] if value)
        for inner in node.values():
            yield from enumerations(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from enumerations(inner)


def test_named_enumeration_is_declared_once(document: dict[str, Any]) -> None:
    found = list(enumerations(document))
    schemas = document["components"]["schemas"]
    for values, name in ENUMERATIONS.items():
        assert found.count(values) == 1, name
        assert schemas[name]["enum"] == list(values)
    properties = [
        f"{name}.{key}"
        for name, schema in schemas.items()
        for key, field in schema.get("properties", {}).items()
        if key in ("role", "level") and "enum" in field
    ]
    assert properties == []


def test_error_responses_are_named_schemas_without_composition(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, response in document["components"]["responses"].items():
        [content] = response["content"].values()
        problem = schemas[content["schema"]["$ref"].rpartition("/")[2]]
        assert problem["type"] == "object", name
        assert isinstance(problem["properties"]["status"]["const"], int)
    assert schemas["NotFoundProblem"]["properties"]["code"]["enum"] == [NotFound.code]


def test_optional_property_of_request_body_has_no_default(document: dict[str, Any]) -> None:
    """openapi-typescript requires properties with a default, so `{message}` alone would not compile."""
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["required"] == ["message"]
    assert [name for name, field in chat["properties"].items() if "default" in field] == []


def properties(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each property of each schema in the document, nested ones too, with its place."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict) and node.get("type") == "object":
            yield from ((f"{path}.{name}", field) for name, field in node["properties"].items())
        for key, inner in node.items():
            yield from properties(inner, f"{path}/{key}")
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from properties(inner, f"{path}/{index}")


def test_properties_and_parameters_have_descriptions(document: dict[str, Any]) -> None:
    """Describe a field in its metadata, that of a report by `Annotated`, or what many share in descriptions.py."""
    found = [(path, field) for part in ("components", "paths") for path, field in properties(document[part], part)]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            parameters = operation if method == "parameters" else operation.get("parameters", [])
            found += [
                (f"{method} {path} {parameter.get('name')}", parameter)
                for parameter in parameters
                if "$ref" not in parameter
            ]
    found += document["components"]["parameters"].items()
    found += document["components"]["headers"].items()
    assert len(found) > 800
    assert [path for path, field in found if not field.get("description", "").endswith(".")] == []


def test_enumeration_of_parameter_is_named(document: dict[str, Any]) -> None:
    """Add `x-enumeration` to the field's metadata. Names of files are no enumeration of clients."""
    inline = [
        f"{path} {parameter['name']}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for parameter in (operation if method == "parameters" else operation.get("parameters", []))
        if "enum" in parameter.get("schema", {})
    ]
    assert inline == ["/docs/{name} name"]
    assert "x-enumeration" not in str(document)


def test_further_code_does_not_rename_an_error_response() -> None:
    codes = ["rate_limited", "too_many_turns", "quota_exceeded"]
    assert problem_name(codes) == problem_name([*codes, "one_more"]) == "TurnLimit"
    assert problem_name(["conflict", "conversation_busy"]) == "Conflict.ConversationBusy"
    assert problem_name(["archive_damaged"]) == "ArchiveDamaged"


def test_name_of_schema_is_short(document: dict[str, Any]) -> None:
    """Add an error response with a longer name to `PROBLEMS` in app/api/openapi/names.py."""
    components = document["components"]
    assert [name for part in ("schemas", "responses") for name in components[part] if len(name) > 50] == []
    assert {f"{name}Problem" for name, _ in PROBLEMS} <= set(components["schemas"])


def ambiguous(path: str, other: str) -> bool:
    """Return whether redocly's rule `no-ambiguous-paths` reports one of two paths."""
    pairs = list(zip(path.split("/"), other.split("/"), strict=False))
    variables = [[part.startswith("{") for part in pair] for pair in pairs]
    return (
        path.count("/") == other.count("/")
        and all(any(flags) or first == second for (first, second), flags in zip(pairs, variables, strict=True))
        and sum(first for first, _ in variables) == sum(second for _, second in variables)
    )


def test_ambiguous_paths_are_those_that_the_linter_ignores(document: dict[str, Any]) -> None:
    """Prefer another path; else list it in tests/clients/.redocly.lint-ignore.yaml, if words and ids differ."""
    ignored = (ROOT / "tests" / "clients" / ".redocly.lint-ignore.yaml").read_text()
    paths = list(document["paths"])
    found = {path for index, path in enumerate(paths) if any(ambiguous(path, earlier) for earlier in paths[:index])}
    listed = re.findall(r"- '#/paths/([^/']*)'", ignored)
    assert found == {pointer.replace("~1", "/") for pointer in listed}
