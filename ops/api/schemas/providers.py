"""Schemas of AI providers and the choice of one."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, PlainText, Schema
from app.bounds import MODEL_LIMIT
from ops.providers.listing import NAMES

_NAME = validate.OneOf(list(NAMES))


class ProviderStatusSchema(Schema):
    name = fields.String(validate=_NAME, metadata={"description": "Name of the provider."})
    in_use = fields.Boolean(metadata={"description": "Whether it is the default."})
    configured = fields.Boolean(metadata={"description": "Whether its settings are complete."})
    model = fields.String(allow_none=True, metadata={"description": "Default model."})
    missing_setting = fields.String(
        allow_none=True, metadata={"description": "Setting that is missing for its configuration."}
    )


class ProvidersSchema(Schema):
    """The configuration of the process that answers; the choice applies to all processes."""

    in_use = fields.String(validate=_NAME, metadata={"description": "The default provider."})
    reason = fields.String(metadata={"description": "Why it is in use."})
    since = fields.AwareDateTime(
        allow_none=True, metadata={"description": "When an operator chose it; null without a choice."}
    )
    fallback = fields.List(
        fields.String(validate=_NAME),
        metadata={"description": "Providers to try, in order, when the chosen one gives no answer."},
    )
    providers = fields.List(fields.Nested(ProviderStatusSchema), metadata={"description": "All providers."})


class ProviderChoiceSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"provider": "openrouter", "model": "some-vendor/some-model"}]

    provider = fields.String(required=True, validate=_NAME, metadata={"description": "Name of the provider."})
    model = PlainText(
        max_length=MODEL_LIMIT,
        load_default=None,
        allow_none=True,
        metadata={"description": "Model; by default the provider's own."},
    )


class ProviderSwitchedSchema(Schema):
    """The new choice; all servers apply it within five seconds."""

    name = fields.String(validate=_NAME, metadata={"description": "Name of the new default provider."})
    model = fields.String(metadata={"description": "Its model."})
    previous = fields.String(validate=_NAME, metadata={"description": "Name of the previous default provider."})
    previous_model = fields.String(metadata={"description": "Its model."})


class ProviderTestedSchema(Schema):
    name = fields.String(validate=_NAME, metadata={"description": "Name of the provider."})
    ok = fields.Boolean(metadata={"description": "Whether it answered."})
    model = fields.String(metadata={"description": "Model that answered, or that was requested."})
    first_chunk_seconds = fields.Float(
        allow_none=True, metadata={"description": "Time until the first part of the answer; null without an answer."}
    )
    seconds = fields.Float(metadata={"description": "Time until the end."})
    answer = fields.String(allow_none=True, metadata={"description": "Start of the answer."})
    tokens = fields.Integer(
        allow_none=True, metadata={"description": "Tokens of the answer; null if the provider did not say."}
    )
    problem = fields.String(allow_none=True, metadata={"description": "The error in one sentence."})
    cross_check = fields.String(allow_none=True, metadata={"description": "Null; the command line has it."})
