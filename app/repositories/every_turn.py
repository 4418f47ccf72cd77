"""The statements of every turn, for whoever prepares them (`app.prepared`): a begin and a finish without a quota."""

from app.repositories.turns import BEGIN, BEGIN_NEW, FINISH, called

STATEMENTS = {
    "begin": called(BEGIN, by_key=False).text,
    "begin_by_key": called(BEGIN, by_key=True).text,
    "begin_new": called(BEGIN_NEW, by_key=False).text,
    "begin_new_by_key": called(BEGIN_NEW, by_key=True).text,
    "finish": FINISH.text,
}

# PostgreSQL's types of their parameters.
_PARAMETERS = {
    "uuid": "user_id session_id key_id conversation_id project_id turn_id attempt",
    "bytea": "key_hash request_hash",
    "text": "idempotency_key content title preview provider model default_provider status finish_reason error messages"
    " told",
    "integer": "history history_chars max_running lucky count told_sequence last_sequence input_tokens output_tokens",
    "double precision": "since_first_token",
}
TYPES = {parameter: kind for kind, parameters in _PARAMETERS.items() for parameter in parameters.split()}
