"""Chat: send a message and get the answer, as JSON or as a stream."""

from typing import Any

from flask import Response
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.answers import answer, documented
from app.api.blueprint import Blueprint
from app.api.schemas.chat import ChatRequestSchema
from app.container import services
from app.errors import InvalidInput, PermissionDenied

# TURN: the statement that begins the turn also checks the session, so no separate query does.
blueprint = Blueprint("chat", __name__, access=Access.TURN, description="Send a message and get an answer")


_REQUEST = ChatRequestSchema()  # one instance: webargs would instantiate a class for each request


@blueprint.route("/api/chat")
class Chat(MethodView):
    @blueprint.arguments(_REQUEST)
    @documented(blueprint)
    def post(self, body: dict[str, Any]) -> Response:
        """Send a message and get the answer, as JSON or as server-sent events."""
        return _chat(body)


@blueprint.route("/api/<string:user_id>/chat")
class UserChat(MethodView):
    @blueprint.arguments(_REQUEST)
    @documented(blueprint)
    def post(self, body: dict[str, Any], user_id: str) -> Response:
        """Send a message as in `POST /api/chat`; the user in the path must be the caller."""
        if user_id.lower() != str(caller().user_id):
            raise PermissionDenied("The user in the path is not the caller; use your own id or `POST /api/chat`.")
        return _chat(body)


def _chat(body: dict[str, Any]) -> Response:
    max_chars = services().settings.chat.max_user_chars
    if len(body["message"]) > max_chars:
        raise InvalidInput(fields={"message": [f"Longer than {max_chars} characters."]})
    body["files"] = tuple(dict.fromkeys(body["files"]))
    return answer(body, services().turns.start)
