"""The description of the API as OpenAPI 3.1, at /openapi.json.

flask-smorest reads the views: paths, arguments, responses and docstrings. This package adds what is declared elsewhere,
for all views: access (of the blueprint), errors (of the error tree), and the headers of every request and response. A
view declares only errors that do not follow from these, with `Blueprint.raises`.
"""

import hashlib
from typing import Any

import orjson
from flask import Flask, Response, current_app, request

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.openapi.completion import Completion, complete
from app.api.openapi.general import GENERAL
from app.encoding import encode_json
from app.http_extensions import api

EXTENSION = "openapi"  # where `Flask.extensions` holds the finished document

blueprint = Blueprint(
    "openapi", __name__, access=Access.PUBLIC, limited=False, description="The OpenAPI document of this API"
)


@blueprint.route("/openapi.json")
@blueprint.response(200, {"type": "object"})
@blueprint.alt_response(304, description="Unchanged, by its ETag.")
def openapi_document() -> Response:
    """Get this OpenAPI document."""
    body: bytes = current_app.extensions[EXTENSION]
    if request.root_path:  # behind a proxy with a prefix
        document = orjson.loads(body)
        document["servers"][0]["url"] = request.root_path
        body = encode_json(document)
    response = Response(body, content_type="application/json", headers={"Cache-Control": "no-cache"})
    response.set_etag(hashlib.sha256(body).hexdigest()[:16], weak=True)  # weak, because the response may be compressed
    response.make_conditional(request)
    return response


def init_app(flask_app: Flask) -> None:
    """Start the description, before blueprints are registered."""
    api.DEFAULT_ERROR_RESPONSE_NAME = None  # each status is listed, so there is no default response
    api.init_app(flask_app, spec_kwargs={"extra_plugins": [Completion(flask_app)], **GENERAL})


def publish(flask_app: Flask) -> None:
    """Complete the description, after all blueprints are registered."""
    document: dict[str, Any] = complete(api.spec)
    flask_app.extensions[EXTENSION] = encode_json(document)
