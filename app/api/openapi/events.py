"""The schema of event streams in the description.

OpenAPI 3.1 cannot describe the items of a stream. As in later versions and current tools, the schema of
`text/event-stream` describes one event, with `data` as a string whose content has its own schema.
"""

from typing import Any

from marshmallow import Schema

from app.api.schemas.events import EVENTS


def name_of(data: type[Schema]) -> str:
    """Return the name of the schema of an event's data in the components."""
    return data.__name__.removesuffix("Schema")


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema of one event of any kind."""
    return {
        "description": "One event of a stream. `id` is an increasing integer. Lines that begin with a colon are"
        " comments: one comes at once, and one after each 15 seconds without events, to keep the connection open.",
        "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in event_schemas()],
    }


def event_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each kind of event by its name in the components, such as TurnStartedEvent."""
    return {
        "".join(word.capitalize() for word in name.split(".")) + "Event": _event(name, *data)
        for name, data in EVENTS.items()
    }


def _event(name: str, *data: type[Schema]) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{name_of(schema)}"} for schema in data]
    properties = {
        "id": {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "Number of the event in its turn."},
        "event": {"const": name, "description": "Kind of the event."},
        "data": {
            "type": "string",
            "description": "The data, as JSON text.",
            "contentMediaType": "application/json",
            "contentSchema": references[0] if len(references) == 1 else {"anyOf": references},
        },
    }
    return {"type": "object", "properties": properties, "required": ["id", "event", "data"]}
