"""The AI providers: which answers, from now on, and whether it does."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import Conflict, InvalidInput
from ops import providers
from ops.api.requests import requester
from ops.api.schemas.providers import (
    ProviderChoiceSchema,
    ProvidersSchema,
    ProviderSwitchedSchema,
    ProviderTestedSchema,
)
from ops.audit import audited
from ops.providers import Providers, ProviderSwitched, ProviderTested

blueprint = Blueprint(
    "admin_providers",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/providers",
    description="The AI providers, for operators",
)


@blueprint.route("")
class AllProviders(MethodView):
    @blueprint.response(200, ProvidersSchema)
    def get(self) -> Providers:
        """Every provider: whether it is configured, what it lacks, and which one answers by default"""
        return providers.list_providers()


@blueprint.route("/choice")
class ProviderChoice(MethodView):
    @blueprint.arguments(ProviderChoiceSchema)
    @blueprint.response(200, ProviderSwitchedSchema)
    @blueprint.raises(Conflict)
    def put(self, body: dict[str, Any]) -> ProviderSwitched:
        """Let a provider answer from now on where neither request nor project names another; on every server"""
        name, model = body["provider"], body["model"]
        with audited(by=requester(), action="provider.use", on=name, details={"model": model}) as notes:
            switched = providers.use_provider(name=name, model=model, by=requester())
            notes["before"] = switched.before
        return switched

    @blueprint.response(200, ProviderSwitchedSchema)
    def delete(self) -> ProviderSwitched:
        """Take the choice back: what the settings say holds again"""
        with audited(by=requester(), action="provider.reset") as notes:
            switched = providers.reset_provider(by=requester())
            notes["before"] = switched.before
        return switched


@blueprint.route("/<string:provider>/test")
class ProviderTest(MethodView):
    @blueprint.response(200, ProviderTestedSchema)
    @blueprint.raises(Conflict, InvalidInput)
    def post(self, provider: str) -> ProviderTested:
        """Put a short question to a provider, and say how long its answer took or what is wrong"""
        return providers.test_provider(provider)
