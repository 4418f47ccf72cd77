"""The header `Idempotency-Key`: how it is read, and views that answer it. `Blueprint.creates` declares such a view."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from flask import Response, request

from app.api.access import caller
from app.errors import InvalidInput
from app.services.idempotency import Answer, once, request_hash

View = TypeVar("View", bound=Callable[..., Any])

HEADER = "Idempotency-Key"
# For the API's description.
PARAMETER = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
    "description": "1 to 255 printable ASCII characters of your choice. For a day the same key with the same request"
    " is answered as it was the first time, and nothing is created again; another request with it is refused.",
}
REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` where the answer is told again and nothing was done; else absent.",
        "schema": {"const": "true"},
    }
}


def sent_key() -> str | None:
    """The request's Idempotency-Key, if it has one. Raises `InvalidInput` for what cannot be one."""
    key = request.headers.get(HEADER)
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise InvalidInput("The Idempotency-Key must be 1 to 255 printable ASCII characters.")
    return key


def answered_once(view: View) -> View:
    """Make `view` answer the same request under the same key as it did the first time.

    It must give a whole `Response`, and take the parsed body and query as mappings: they, method and path are what is
    the same in the same request. Errors are not kept: they created nothing, and are found out again.
    """

    @wraps(view)
    def wrapper(*arguments: Any, **path: Any) -> Response:
        key = sent_key()
        if key is None:
            plain: Response = view(*arguments, **path)
            return plain
        asked = [each for each in arguments if isinstance(each, Mapping)]
        created: list[Response] = []

        def create() -> Answer:
            response: Response = view(*arguments, **path)
            created.append(response)
            return Answer(response.status_code, response.get_data(as_text=True), response.headers.get("Location"))

        answer = once(caller().user_id, key, request_hash(f"{request.method} {request.path}", asked), create)
        return _told_again(answer) if answer.again else created[0]

    return wrapper  # type: ignore[return-value]  # it is called as `view` is


def _told_again(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, content_type="application/json")
    response.headers["Idempotency-Replayed"] = "true"
    if answer.location is not None:
        response.headers["Location"] = answer.location
    return response
