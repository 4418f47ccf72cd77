"""Options of turns: of all turns of a project, or of one request. Providers get them by OpenAI's names."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import fields, validate

from app.api.json_schemas import schema_problem
from app.api.schemas.base import Flag, Number, PlainText, Schema, WholeNumber
from app.api.schemas.conversations import refuse_extreme_numbers
from app.bounds import MAX_HISTORY_MESSAGES, MAX_OUTPUT_TOKENS
from app.enums import ResponseFormatType
from app.tools.registry import MAX_TOOLS

_NAME = "Must be 1 to 64 of A-Z, a-z, 0-9, _ and -."

OPTIONS_EXAMPLE = {
    "temperature": 0,
    "tools": ["list_tasks"],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "cities", "description": "Names of cities.", "schema": {"type": "object"}},
    },
}


class JsonSchema(fields.Dict):
    """A JSON Schema, checked and bounded as in `app.api.json_schemas`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        loaded = super()._deserialize(value, attr, data, **options)  # type: ignore[no-untyped-call]
        if problem := schema_problem(loaded):
            raise ma.ValidationError(problem)
        refuse_extreme_numbers(loaded)
        return loaded


class JsonSchemaFormat(Schema):
    """The JSON Schema of an answer, as OpenAI's API takes it."""

    name = fields.String(
        required=True,
        validate=[validate.Regexp("^[A-Za-z0-9_-]{1,64}$", error=_NAME), validate.ContainsNoneOf("\n", error=_NAME)],
        metadata={"description": "Name of the format, for the model: 1 to 64 of A-Z, a-z, 0-9, _ and -."},
    )
    description = PlainText(max_length=1000, metadata={"description": "What the answer is for, for the model."})
    schema = JsonSchema(
        required=True,
        metadata={
            "description": "JSON Schema of the answer: at most 16 KiB and 20 levels, `$ref` only into the same schema."
        },
    )
    strict = Flag(metadata={"description": "Whether the provider enforces the schema; absent for its default."})


class ResponseFormat(Schema):
    """The form of the answer's text."""

    type = fields.String(
        required=True,
        validate=validate.OneOf(list(ResponseFormatType)),
        metadata={
            "description": "`text`; `json_object` for any JSON object, which the prompts must ask for; `json_schema`"
            " for JSON of the schema in `json_schema`."
        },
    )
    json_schema = fields.Nested(JsonSchemaFormat, metadata={"description": "Required for the type `json_schema`."})

    @ma.validates_schema
    def _check_type(self, data: Mapping[str, Any], **_: Any) -> None:
        has_schema = "json_schema" in data
        if (data["type"] == ResponseFormatType.JSON_SCHEMA) != has_schema:
            message = "Only for the type json_schema." if has_schema else "Required for the type json_schema."
            raise ma.ValidationError(message, "json_schema")


class TurnOptions(Schema):
    """Parameters of turns. URLs and keys of providers are the operator's settings."""

    temperature = Number(
        validate=validate.Range(0, 2),
        metadata={"description": "Sampling temperature; absent for the provider's default."},
    )
    max_output_tokens = WholeNumber(
        validate=validate.Range(1, MAX_OUTPUT_TOKENS),
        metadata={"description": "Largest length of an answer in tokens; absent for the provider's default."},
    )
    history = WholeNumber(
        validate=validate.Range(0, MAX_HISTORY_MESSAGES),
        metadata={
            "description": "Earlier messages that the model gets, at most the server's CHAT_HISTORY_MESSAGES; absent"
            " for that number."
        },
    )
    tools = fields.List(
        PlainText(max_length=64),
        validate=validate.Length(max=MAX_TOOLS),
        allow_none=True,
        metadata={"description": "Names of the tools that the model may call; an empty list for none, null for all."},
    )
    response_format = fields.Nested(
        ResponseFormat, metadata={"description": "Form of the answer's text; absent for text."}
    )
