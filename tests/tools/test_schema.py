"""Validation of arguments by JSON Schema: what models get wrong is found, and no schema can make it take long."""

from typing import Any

import pytest

from app.tools.schema import MAX_ERRORS, argument_errors

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 5},
        "count": {"type": "integer", "minimum": 1, "maximum": 3},
        "state": {"type": ["string", "null"], "enum": ["open", "done", None]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
    },
    "required": ["title"],
    "additionalProperties": False,
}


def test_arguments_that_fit_have_no_errors() -> None:
    arguments = {"title": "five!", "count": 2, "state": None, "tags": ["a"], "place": {"x": 1.5}}
    assert argument_errors(SCHEMA, arguments) == []
    assert argument_errors(SCHEMA, {"title": "a", "count": 2.0}) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "title: missing"),
        ({"title": ""}, "title: must be at least 1"),
        ({"title": "longer"}, "title: must be at most 5"),
        ({"title": 1}, "title: must be of type string"),
        ({"title": None}, "title: must be of type string"),
        ({"title": "a", "count": "2"}, "count: must be of type integer"),
        ({"title": "a", "count": True}, "count: must be of type integer"),
        ({"title": "a", "count": 4}, "count: must be at most 3"),
        ({"title": "a", "state": "gone"}, "state: must be one of"),
        ({"title": "a", "tags": ["b", 2]}, "tags[1]: must be of type string"),
        ({"title": "a", "tags": ["b"] * 3}, "tags: must be at most 2 items"),
        ({"title": "a", "place": {}}, "place.x: missing"),
        ({"title": "a", "user_id": "x"}, "user_id: unknown; the schema has title, count"),
    ],
)
def test_argument_that_does_not_fit_is_named(arguments: dict[str, Any], words: str) -> None:
    (error,) = argument_errors(SCHEMA, arguments)
    assert words in error


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": 5, "properties": [], "required": "title", "enum": 3},
        {"type": ["no such type"]},
        {"properties": {"a": True, "b": False, "c": None}},
        {"$ref": "#"},
        {"properties": {"a": {"pattern": "(a+)+$"}}},
    ],
)
def test_schema_that_is_invalid_or_not_evaluated_rejects_nothing(schema: dict[str, Any]) -> None:
    assert argument_errors(schema, {"a": "a" * 50_000 + "!", "b": 1, "c": []}) == []


def test_errors_and_compared_values_are_bounded() -> None:
    assert len(argument_errors(SCHEMA, {str(number): 1 for number in range(1000)})) == MAX_ERRORS
    row = {"type": "array", "items": {"type": "string"}}
    assert argument_errors({"properties": {"a": row}}, {"a": ["x"] * 20_000 + [1]}) == []
    deep: Any = 1
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(2000):
        deep, schema = [deep], {"items": schema}
    assert argument_errors({"properties": {"a": schema}}, {"a": deep}) == []
