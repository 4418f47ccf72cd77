"""The page at /docs: Swagger UI, from an installed package, with this server's OpenAPI document.

All files come from this server, which the Content-Security-Policy enforces, so the page works without the internet.
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

_FOLDER = Path(__file__).with_name("docs_page")
_BUNDLE = Path(str(resources.files("flask_swagger_ui"))) / "dist"
# Swagger UI's style sheet contains its icons as data URLs.
_POLICY = f"{PAGE_POLICY}; img-src 'self' data:"

_FILES = {
    "start.js": (_FOLDER / "start.js", "text/javascript"),
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
    description="Interactive documentation of this API",
)


@blueprint.route("")
@blueprint.response(200, _TEXT, content_type="text/html")
@blueprint.alt_response(304, description="Unchanged, by its ETag.")
def docs_page() -> Response:
    """Get the interactive documentation page."""
    response = _answer(_FOLDER / "index.html", "text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@blueprint.route(f"/<any({_NAMES}):name>")
@blueprint.response(200, _TEXT, content_type="text/javascript")
@blueprint.alt_response(200, schema=_TEXT, content_type="text/css", success=True)
@blueprint.alt_response(200, schema=_TEXT, content_type="image/png", success=True)
@blueprint.alt_response(304, description="Unchanged, by its ETag.")
def docs_file(name: str) -> Response:
    """Get a file of the documentation page."""
    return _answer(*_FILES[name])


def _answer(path: Path, media_type: str) -> Response:
    """Return the file; browsers cache it and revalidate it with its ETag."""
    body, tag = _read(path)
    response = Response(body, mimetype=media_type, headers={"Cache-Control": "no-cache"})
    response.set_etag(tag)
    return cast(Response, response.make_conditional(request))


@cache
def _read(path: Path) -> tuple[bytes, str]:
    """Return content and ETag, cached in the process: 2 MB for all files."""
    body = path.read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:16]
