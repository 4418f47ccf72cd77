"""The metadata of `/mcp` as a protected resource (RFC 9728)."""

from marshmallow import fields

from app.api.schemas.base import Schema


class ResourceMetadataSchema(Schema):
    resource = fields.String(metadata={"description": "URL of `/mcp`."})
    authorization_servers = fields.List(
        fields.String(), metadata={"description": "URLs of the authorization servers that issue tokens for it."}
    )
    scopes_supported = fields.List(
        fields.String(), metadata={"description": "`read` for all methods, `write` for tools that change something."}
    )
    bearer_methods_supported = fields.List(
        fields.String(), metadata={"description": "How a request sends its token: in the header `Authorization`."}
    )
    resource_name = fields.String(metadata={"description": "Name of the resource for people."})
