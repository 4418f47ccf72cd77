"""The MCP server at `/mcp`: a stateless endpoint for clients of the Model Context Protocol, see docs/mcp.md.

One POST is one JSON-RPC message, and its response is one JSON document: there are no streams and no sessions. So the
endpoint runs in every web worker like any other route, with the same authentication, limits and bounds.
"""

from flask import Flask, Response, request
from flask.views import MethodView
from mcp_types.jsonrpc import JSONRPC_VERSION

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.mcp import authorization, offer
from app.api.mcp.cancellation import cancel_request, cancellable
from app.api.mcp.errors import McpError, error_response, translate_problem
from app.api.mcp.messages import read_message
from app.api.mcp.methods import result_of
from app.api.mcp.offer import Offer
from app.api.mcp.origins import origin_rule
from app.api.mcp.protocol import revision_of
from app.api.mcp.resources import ConversationResources
from app.api.mcp.tools import own_tools
from app.config import Server
from app.encoding import encode_json
from app.enums import KeyScope
from app.errors import PermissionDenied

# A key needs `read` for all methods, and also `write` to call a tool that changes something.
blueprint = Blueprint(
    "mcp",
    __name__,
    access=Access.USER,
    scope=KeyScope.READ,
    documented=False,  # JSON-RPC describes itself, by `server/discover`
    description="Model Context Protocol",
)
metadata_blueprint = authorization.blueprint


def init_app(flask_app: Flask, settings: Server) -> None:
    """Offer tools and conversations, and refuse pages of foreign origins."""
    offer.init_app(flask_app, Offer(own_tools, ConversationResources()))
    is_permitted = origin_rule(settings)

    @flask_app.before_request
    def check_origin() -> None:
        origin = request.headers.get("Origin")
        if request.blueprint == blueprint.name and origin is not None and not is_permitted(origin):
            raise PermissionDenied("Pages of this origin may not call this server: CORS_ORIGINS does not contain it.")


@blueprint.route("/mcp")
class McpEndpoint(MethodView):
    def post(self) -> Response:
        """Handle one message of a client."""
        message = read_message()
        revision = revision_of(message)
        if message.id is None:
            cancel_request(message)
            return Response(status=202)
        try:
            with cancellable(message, revision) as token:
                result = result_of(message, revision, token)
        except McpError as error:
            # Clients of earlier revisions read a JSON-RPC error only from a successful response.
            error.status = error.status if revision.is_stateless else 200
            raise
        body = encode_json({"jsonrpc": JSONRPC_VERSION, "id": message.id, "result": result})
        return Response(body, content_type="application/json", headers={"X-Accel-Buffering": "no"})


blueprint.register_error_handler(McpError, error_response)
blueprint.after_request(translate_problem)
blueprint.after_request(authorization.add_challenge)
