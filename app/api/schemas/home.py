from marshmallow import fields

from app.api.schemas.base import Schema


def _path(description: str) -> fields.String:
    return fields.String(metadata={"description": description})


class HomeSchema(Schema):
    name = fields.String(metadata={"description": "Name of the program: Parley."})
    description = fields.String(metadata={"description": "What the server does, in one sentence."})
    documentation = _path("Path of the interactive documentation.")
    openapi = _path("Path of the OpenAPI document.")
    health = _path("Path of the readiness check.")
