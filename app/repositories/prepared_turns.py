"""The statements that `app.prepared_statements` prepares: the begins and the finish of turns without a token quota."""

from app.repositories.turn_begin import BeginKind, variant
from app.repositories.turn_finish import FINISH

STATEMENTS = {
    "begin": variant(BeginKind.EXISTING, by_key=False).text,
    "begin_by_key": variant(BeginKind.EXISTING, by_key=True).text,
    "begin_new": variant(BeginKind.NEW, by_key=False).text,
    "begin_new_by_key": variant(BeginKind.NEW, by_key=True).text,
    "finish": FINISH.text,
}

# PostgreSQL's types of the parameters, by the fields of `BeginParameters` and `FinishParameters`.
_PARAMETERS = {
    "uuid": "user_id session_id key_id conversation_id project_id turn_id attempt",
    "bytea": "key_hash request_hash",
    "text": "idempotency_key content title preview provider model default_provider status finish_reason error messages"
    " events message_metadata",
    "integer": "history history_chars max_running slot_seed count events_sequence last_sequence input_tokens"
    " output_tokens",
    "bigint": "max_bytes",
    "boolean": "project_history",
    "double precision": "since_first_token",
}
TYPES = {parameter: kind for kind, parameters in _PARAMETERS.items() for parameter in parameters.split()}
