from typing import ClassVar

from marshmallow import fields

from app.api.schemas.base import Examples, Schema


class ProviderModelsSchema(Schema):
    name = fields.String(metadata={"description": "Name of the provider."})
    default_model = fields.String(metadata={"description": "Model for requests that name the provider but no model."})
    models = fields.List(
        fields.String(), metadata={"description": "Listed models, the default one first; at most 1001."}
    )
    listed_at = fields.AwareDateTime(
        allow_none=True, metadata={"description": "Time of the list; null if the provider has not returned one yet."}
    )


class ModelsSchema(Schema):
    """All providers. The first one is the default for requests and projects that name none."""

    EXAMPLES: ClassVar[Examples] = [
        {
            "providers": [
                {
                    "name": "openrouter",
                    "default_model": "openrouter/auto",
                    "models": ["openrouter/auto", "some-vendor/some-model"],
                    "listed_at": "2026-03-01T09:30:00+00:00",
                },
                {"name": "demo", "default_model": "demo", "models": ["demo"], "listed_at": "2026-03-01T09:30:00+00:00"},
            ]
        }
    ]

    providers = fields.List(
        fields.Nested(ProviderModelsSchema), metadata={"description": "The providers, the default one first."}
    )
