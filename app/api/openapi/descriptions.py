"""Descriptions of properties and path parameters that mean the same everywhere, for those that declare none."""

from typing import Any

COMMON = {
    "id": "Id of the object.",
    "created_at": "When it was created.",
    "updated_at": "When it was last changed.",
    "started_at": "When it started.",
    "finished_at": "When it ended; null while it runs.",
    "first_token_at": "When the first part of the answer arrived; null before that.",
    "expires_at": "When it expires; null if never.",
    "revoked_at": "When it was revoked; null if it was not.",
    "items": "The objects of this page, in order.",
    "next_cursor": "Cursor of the next page; null on the last page.",
    "email": "Email address.",
    "user_id": "Id of the user.",
    "conversation_id": "Id of the conversation.",
    "project_id": "Id of the project; null without one.",
    "turn_id": "Id of the turn.",
    "request_id": "Id of the request, as in the logs.",
    "provider": "Name of the AI provider.",
    "model": "Name of the model.",
    "position": "Position, counted from 1.",
    "tool_calls": "Tool calls of the answer, as the provider sent them.",
    "tool_call_id": "Id of the tool call that this message answers.",
    "metadata": "Additional data, as a JSON object.",
    "finish_reason": "Reason of the provider for ending the answer.",
    "error": "The error of a failed turn; null otherwise.",
    "input_tokens": "Tokens sent to the provider.",
    "output_tokens": "Tokens of the answer.",
    "access_token": "Token for requests, until it expires.",
    "refresh_token": "Token for one refresh of the session.",
    "token_type": "Always Bearer.",
    "message_count": "Number of messages.",
    "legal_hold": "Whether a legal hold prevents deletion.",
}

PATH_PARAMETERS = {
    "conversation_id": "Id of the conversation.",
    "acknowledgement_id": "Id of the acknowledgement.",
    "hold_id": "Id of the legal hold.",
    "job_name": "Name of the job.",
    "server": "Name of the MCP server.",
    "key_id": "Id of the API key.",
    "receipt_id": "Id of the receipt, from the response to the deletion.",
    "session_id": "Id of the session.",
    "name": "Name of the file.",
    "number": "Number of the version.",
    "queue": "Name of the queue: `interactive` or `maintenance`.",
    "project_id": "Id of the project.",
    "prompt_id": "Id of the prompt.",
    "provider": "Name of the provider.",
    "run_id": "Id of the run.",
    "todo_id": "Id of the task.",
    "file_id": "Id of the file.",
    "turn_id": "Id of the turn.",
    "user_id": "Id of the user.",
}


def describe_path_parameters(parameters: list[Any]) -> None:
    """Add the description of PATH_PARAMETERS to each path parameter without one, in place."""
    for parameter in parameters:
        if isinstance(parameter, dict) and parameter.get("in") == "path" and parameter["name"] in PATH_PARAMETERS:
            parameter.setdefault("description", PATH_PARAMETERS[parameter["name"]])


def describe_common(schemas: dict[str, Any]) -> None:
    """Add the description of COMMON to each property without one, in place."""
    for schema in schemas.values():
        for name, field in schema.get("properties", {}).items():
            if name in COMMON and not field.get("description"):
                field["description"] = COMMON[name]
