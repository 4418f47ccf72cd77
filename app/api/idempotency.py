"""The header `Idempotency-Key`. `Blueprint.creates` declares views that support it."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from flask import Response, request

from app.api.access import caller
from app.errors import InvalidInput
from app.services.idempotency import StoredResponse, request_hash, run_once

View = TypeVar("View", bound=Callable[..., Any])

HEADER = "Idempotency-Key"
# For the API's description.
PARAMETER = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
    "description": "1 to 255 printable ASCII characters of your choice. For a day, repeating the request with the same"
    " key returns the first response and creates nothing; a different request with that key is refused.",
}
REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` if the response is replayed and nothing was done; otherwise absent.",
        "schema": {"const": "true"},
    }
}


def sent_key() -> str | None:
    """Return the request's Idempotency-Key, if it has one. Raises `InvalidInput` for a malformed one."""
    key = request.headers.get(HEADER)
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise InvalidInput("The Idempotency-Key must be 1 to 255 printable ASCII characters.")
    return key


def replay_repeated(view: View) -> View:
    """Make `view` return its first response again if a request is repeated with the same key.

    Requests are the same if method, path, and the parsed body and query, which `view` takes as mappings, are equal.
    `view` must return a complete `Response`. Errors are not kept, because nothing was created.
    """

    @wraps(view)
    def wrapper(*arguments: Any, **path: Any) -> Response:
        key = sent_key()
        if key is None:
            response: Response = view(*arguments, **path)
            return response
        parsed = [argument for argument in arguments if isinstance(argument, Mapping)]
        created: list[Response] = []

        def create() -> StoredResponse:
            response: Response = view(*arguments, **path)
            created.append(response)
            location = response.headers.get("Location")
            if location is not None:  # without the path of the proxy: the next request may come another way
                location = location.removeprefix(request.root_path.rstrip("/"))
            return StoredResponse(response.status_code, response.get_data(as_text=True), location)

        answer = run_once(caller().user_id, key, request_hash(f"{request.method} {request.path}", parsed), create)
        return _replay(answer) if answer.replayed else created[0]

    return wrapper  # type: ignore[return-value]  # the same signature as `view`


def _replay(answer: StoredResponse) -> Response:
    response = Response(answer.body, answer.status, content_type="application/json")
    response.headers["Idempotency-Replayed"] = "true"
    if answer.location is not None:
        response.headers["Location"] = request.root_path.rstrip("/") + answer.location
    return response
