"""The page at /docs: this server's own description, shown by Swagger UI, whose files come with a package.

Nothing of it is fetched from anywhere else, so it works without the internet, and its policy says so to the browser.
"""

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import cast

from flask import Response, request

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.security import PAGE_POLICY

_OURS = Path(__file__).with_name("docs_page")
_BUNDLE = Path(str(resources.files("flask_swagger_ui"))) / "dist"
# Swagger UI's style sheet has its icons in itself.
_POLICY = f"{PAGE_POLICY}; img-src 'self' data:"

_FILES = {
    "start.js": (_OURS / "start.js", "text/javascript"),
    "swagger-ui.css": (_BUNDLE / "swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": (_BUNDLE / "swagger-ui-bundle.js", "text/javascript"),
    "favicon.png": (_BUNDLE / "favicon-32x32.png", "image/png"),
}
_NAMES = ",".join(f'"{name}"' for name in _FILES)
_TEXT = {"type": "string"}

blueprint = Blueprint(
    "docs",
    __name__,
    access=Access.PUBLIC,
    limited=False,
    url_prefix="/docs",
    description="What this API can do, for people",
)


@blueprint.route("")
@blueprint.response(200, _TEXT, content_type="text/html")
@blueprint.alt_response(304, description="Still the same, by its ETag.")
def docs_page() -> Response:
    """This API as a page to read and to try"""
    response = _answer(_OURS / "index.html", "text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@blueprint.route(f"/<any({_NAMES}):name>")
@blueprint.response(200, _TEXT, content_type="text/javascript")
@blueprint.alt_response(200, schema=_TEXT, content_type="text/css", success=True)
@blueprint.alt_response(200, schema=_TEXT, content_type="image/png", success=True)
@blueprint.alt_response(304, description="Still the same, by its ETag.")
def docs_file(name: str) -> Response:
    """A file of the page"""
    return _answer(*_FILES[name])


def _answer(path: Path, media_type: str) -> Response:
    """The file. Browsers keep it, and ask each time whether it has changed."""
    body, tag = _read(path)
    response = Response(body, mimetype=media_type, headers={"Cache-Control": "no-cache"})
    response.set_etag(tag)
    return cast(Response, response.make_conditional(request))


@cache
def _read(path: Path) -> tuple[bytes, str]:
    """Its content and what that is known by; kept by the process, two megabytes for all of them."""
    body = path.read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:16]
