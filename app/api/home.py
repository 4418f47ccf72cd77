"""The page at /: what this server is, and links to its documentation and health."""

import base64
import hashlib
from pathlib import Path

from flask import Response, jsonify, request, url_for
from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.schemas.home import HomeSchema

_PAGE = Path(__file__).with_name("home_page.html").read_text("utf-8")
_STYLE = _PAGE.partition("<style>")[2].partition("</style>")[0]
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# The page loads nothing: its only style is inline and allowed by its hash.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

blueprint = Blueprint("home", __name__, access=Access.PUBLIC, limited=False, description="What this server is")


@blueprint.route("/")
class Home(MethodView):
    @blueprint.response(200, HomeSchema)
    @blueprint.alt_response(200, schema={"type": "string"}, content_type="text/html", success=True)
    def get(self) -> Response:
        """Get the links to the documentation: a page for browsers, JSON for clients that do not prefer HTML."""
        accepted = request.accept_mimetypes
        if accepted.quality("text/html") > accepted.quality("application/json"):
            response = Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})
        else:
            response = jsonify(
                name="Parley",
                description="A chat backend: it stores conversations and answers messages through an AI provider.",
                documentation=url_for("docs.docs_page"),
                openapi=url_for("openapi.openapi_document"),
                health=url_for("health.Health"),
            )
        response.vary.add("Accept")
        return response
