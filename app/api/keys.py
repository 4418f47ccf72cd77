"""The caller's API keys. They are managed with a session only: a key that creates keys would outlive its own end."""

from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.schemas.keys import KEYS, KeyCreation, KeyPage, KeyQuery, NewKeySchema
from app.services import api_keys
from app.services.api_keys import NewKey

blueprint = Blueprint(
    "keys",
    __name__,
    access=Access.SESSION,
    url_prefix="/api/auth/keys",
    description="API keys for programs",
)


@blueprint.route("")
class Keys(MethodView):
    @blueprint.arguments(KeyQuery, location="query")
    @blueprint.response(200, KeyPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List API keys, newest first, revoked and expired ones included."""
        return KEYS.envelope(api_keys.page(caller().user_id, **query), query["limit"])

    @blueprint.arguments(KeyCreation)
    @blueprint.response(201, NewKeySchema)
    def post(self, body: dict[str, Any]) -> NewKey:
        """Create an API key, which is shown only once; it stays valid after a change of password."""
        return api_keys.create(caller(), **body)


@blueprint.route("/<uuid:key_id>")
class OneKey(MethodView):
    @blueprint.response(204)
    def delete(self, key_id: UUID) -> None:
        """Revoke an API key."""
        api_keys.revoke(caller().user_id, key_id)
