"""Flask's JSON by the encoder of the other responses: UTF-8, and keys in the order of the schema."""

from typing import Any

import orjson
from flask import Response
from flask.json.provider import JSONProvider as FlaskJSONProvider

from app.encoding import encode_json


class JSONProvider(FlaskJSONProvider):
    """The JSON provider of the application. Options of the `json` module are ignored."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """Return `obj` as JSON."""
        return encode_json(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Return the value of a JSON document. Raises `ValueError`."""
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a JSON response, as `flask.jsonify` does."""
        return Response(encode_json(self._prepare_response_obj(args, kwargs)), mimetype="application/json")
