"""Chats on one connection, which reaches one worker."""

from http.client import HTTPConnection
from typing import Any

import orjson

from tests.factories import LoggedInUser


def chat_on(connection: HTTPConnection, user: LoggedInUser, message: str) -> dict[str, Any]:
    """Chat on a connection and return the body of the response."""
    headers = {**user.headers, "Content-Type": "application/json"}
    connection.request("POST", "/api/chat", orjson.dumps({"message": message}), headers)
    response = connection.getresponse()
    body = orjson.loads(response.read())
    assert response.status == 200, body
    return dict(body)
