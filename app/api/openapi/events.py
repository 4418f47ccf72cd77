"""A stream of events in the description.

OpenAPI 3.1 has no word for the items of a stream. As later versions and today's tools do, the schema of
`text/event-stream` is that of one event, with its data as a string whose content has a schema of its own.
"""

from typing import Any

from marshmallow import Schema

from app.api.schemas.events import EVENTS


def name_of(data: type[Schema]) -> str:
    """The name under which the components hold the schema of an event's data."""
    return data.__name__.removesuffix("Schema")


def event_schema() -> dict[str, Any]:
    """Any one event, as JSON Schema."""
    return {
        "description": "One event of a stream. `id` is a whole number that ascends. Lines that begin with a colon are"
        " comments: one at once and one every 15 seconds of silence show that the connection lives.",
        "oneOf": [_event(name, *data) for name, data in EVENTS.items()],
    }


def _event(name: str, *data: type[Schema]) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{name_of(each)}"} for each in data]
    properties = {
        "id": {"type": "string", "pattern": "^[1-9][0-9]*$"},
        "event": {"const": name},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": references[0] if len(references) == 1 else {"anyOf": references},
        },
    }
    return {"type": "object", "title": name, "properties": properties, "required": ["id", "event", "data"]}
