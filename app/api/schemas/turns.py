from marshmallow import fields, validate

from app.api.schemas.base import Schema

# For the API's description; `app.api.turns` reads the header.
LAST_EVENT_ID = {
    "in": "header",
    "name": "Last-Event-ID",
    "required": False,
    "schema": {"type": "string", "pattern": "^[0-9]{0,10}$"},
    "description": "The `id` of the last event received; the stream continues after it. `EventSource` sends it by"
    " itself when it reconnects.",
}


# For the API's description of a message; imported messages have the metadata of the document.
MESSAGE_METADATA = (
    "Of a user's message: `options`: those of the request, if it had any; of the answer to approved calls of tools too;"
    " `files`: the attached ones, each with `id`, `name`, `media_type` and `sha256`, also if it was deleted since."
    " Of an answer: `empty`: true if it has no visible text (the turn's `finish_reason` may say why); `partial`:"
    " `failed`, `cancelled` or `interrupted` if it is not complete; `truncated`: true if it was cut to 1000000"
    " characters; `prompts`: ids and versions of the project's prompts; `dropped_options`: options, `tools` or `images`"
    " that the model rejected and that were left out; `citations`: the files whose text the model got, each with"
    " `file_id`, `name`, `passages` (numbers from 1), `pages` and `characters`; `files_left_out`: files that it did not"
    " get, each with `file_id`, `name` and `reason`: `pending` or `failed` (its text), `deleted`, `no_text`, `limit`,"
    " `busy` or `unavailable` (images). Of a tool's result: `tool`: its name; `is_error`: true if the call failed."
)


class UsageSchema(Schema):
    input_tokens = fields.Integer(allow_none=True)
    output_tokens = fields.Integer(allow_none=True)


class TurnErrorSchema(Schema):
    code = fields.String(metadata={"description": "Kind of the error, as in `Problem`."})
    detail = fields.String(metadata={"description": "What is wrong and what to do, for people."})


class TurnSchema(Schema):
    id = fields.UUID()
    conversation_id = fields.UUID()
    status = fields.String(
        validate=validate.OneOf(["running", "completed", "failed", "cancelled", "interrupted"]),
        metadata={"description": "State of the turn."},
    )
    position = fields.Integer(metadata={"description": "Position of the user's message."})
    answer_position = fields.Integer(
        allow_none=True, metadata={"description": "Position of the answer; null until there is one."}
    )
    provider = fields.String()
    model = fields.String(allow_none=True)
    finish_reason = fields.String(allow_none=True)
    usage = fields.Nested(UsageSchema, metadata={"description": "Tokens of the turn."})
    error = fields.Nested(TurnErrorSchema, allow_none=True)
    started_at = fields.AwareDateTime()
    first_token_at = fields.AwareDateTime(allow_none=True)
    finished_at = fields.AwareDateTime(allow_none=True)


class TicketSchema(Schema):
    ticket = fields.String(metadata={"description": "Characters that need no escape in a URL. Keep it secret."})
