"""People's API keys: never shown, but ended."""

from uuid import UUID

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from ops.accounts import keys, people
from ops.accounts.keys import Key
from ops.api.reports import schema_of
from ops.api.requests import requester
from ops.api.schemas.users import KeysSchema
from ops.audit import audited

blueprint = Blueprint(
    "admin_keys",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/users/<uuid:account_id>/keys",
    description="People's API keys, for operators",
)


@blueprint.route("")
class KeysOfOne(MethodView):
    @blueprint.response(200, KeysSchema)
    def get(self, account_id: UUID) -> dict[str, list[Key]]:
        """Somebody's API keys, the newest first, ended ones too; never the keys themselves"""
        people.find(user_id=account_id)
        return {"items": keys.keys(user_id=account_id)}


@blueprint.route("/<uuid:key_id>")
class OneKeyOfOne(MethodView):
    @blueprint.response(200, schema_of(Key))
    def delete(self, account_id: UUID, key_id: UUID) -> Key:
        """End an API key of somebody: it fails from the next request on"""
        with audited(by=requester(), action="key.revoke", on=str(key_id), details={"account": str(account_id)}):
            return keys.revoke(user_id=account_id, key_id=key_id)
