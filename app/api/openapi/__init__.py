"""The description of the API, OpenAPI 3.1 at /openapi.json.

flask-smorest reads the views: paths, arguments, answers, docstrings. What is declared elsewhere is added here, once for
all of them: who may enter (the blueprint's access), how an operation can fail (the error tree), what every request and
answer carries. A view says only what nobody could know from that, with `Blueprint.raises`.
"""

import hashlib
from typing import Any

import orjson
from flask import Flask, Response, current_app, request

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.openapi.completion import Completion, complete
from app.api.openapi.general import GENERAL
from app.extensions import api

EXTENSION = "openapi"  # where `Flask.extensions` holds the finished document

blueprint = Blueprint(
    "openapi", __name__, access=Access.PUBLIC, limited=False, description="What this API can do, for programs"
)


@blueprint.route("/openapi.json")
@blueprint.response(200, {"type": "object"})
@blueprint.alt_response(304, description="Still the same, by its ETag.")
def openapi_document() -> Response:
    """This document"""
    body: bytes = current_app.extensions[EXTENSION]
    response = Response(body, content_type="application/json", headers={"Cache-Control": "no-cache"})
    response.set_etag(hashlib.sha256(body).hexdigest()[:16], weak=True)  # weak: it may go out compressed
    response.make_conditional(request)
    return response


def init_app(flask_app: Flask) -> None:
    """Begin the description; before any blueprint is registered."""
    api.DEFAULT_ERROR_RESPONSE_NAME = None  # every status is named; nothing is left for a default
    api.init_app(flask_app, spec_kwargs={"extra_plugins": [Completion(flask_app)], **GENERAL})


def publish(flask_app: Flask) -> None:
    """Finish the description; after all blueprints have been registered."""
    document: dict[str, Any] = complete(api.spec)
    flask_app.extensions[EXTENSION] = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
