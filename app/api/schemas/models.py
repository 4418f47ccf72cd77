from typing import ClassVar

from marshmallow import fields

from app.api.schemas.base import Examples, Schema


class ProviderModelsSchema(Schema):
    name = fields.String()
    default_model = fields.String(metadata={"description": "Answers where a request names the provider and no model."})
    models = fields.List(
        fields.String(), metadata={"description": "Those it lists, the default one first; up to 1001."}
    )
    listed_at = fields.AwareDateTime(
        allow_none=True, metadata={"description": "When the provider listed them; null while it has given no list."}
    )


class ModelsSchema(Schema):
    """The first provider is the one that answers where neither a request nor its project names one."""

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

    providers = fields.List(fields.Nested(ProviderModelsSchema))
