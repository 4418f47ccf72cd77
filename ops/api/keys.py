"""API keys of users: list and revoke."""

from uuid import UUID

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from ops.api.protected_admins import refuse_change_of_admin
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.users import KeysSchema
from ops.runs.audit import audited
from ops.users import keys, users
from ops.users.keys import ApiKeySummary

blueprint = Blueprint(
    "admin_keys",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/users/<uuid:user_id>/keys",
    description="API keys of users, for operators",
)


@blueprint.route("")
class UserKeys(MethodView):
    @blueprint.response(200, KeysSchema)
    def get(self, user_id: UUID) -> dict[str, list[ApiKeySummary]]:
        """List the API keys of a user, newest first, including ended ones; never the secrets."""
        users.get(user_id=user_id)
        return {"items": keys.list_keys(user_id=user_id)}


@blueprint.route("/<uuid:key_id>")
class UserKey(MethodView):
    @blueprint.response(200, schema_of(ApiKeySummary))
    def delete(self, user_id: UUID, key_id: UUID) -> ApiKeySummary:
        """Revoke an API key; the next request with it is refused."""
        with audited(actor=current_actor(), action="key.revoke", target=str(key_id), details={"account": str(user_id)}):
            refuse_change_of_admin(user_id)
            return keys.revoke_key(user_id=user_id, key_id=key_id)
