"""Parley with the tools and resources of the conformance suite, for gunicorn.

The suite cannot send a token, so requests without one get that of the variable MCP_TEST_TOKEN.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.api.mcp import offer
from tests.mcp.fixtures import with_fixtures
from wsgi import flask_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["flask_app"]

with flask_app.app_context():
    offer.init_app(flask_app, with_fixtures(offer.current_offer()))

_inner = flask_app.wsgi_app


def _with_token(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    environ.setdefault("HTTP_AUTHORIZATION", f"Bearer {os.environ['MCP_TEST_TOKEN']}")
    return _inner(environ, start_response)


flask_app.wsgi_app = _with_token  # type: ignore[method-assign]  # documented by Flask
