"""The AI providers: list, choice and test."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import Conflict, InvalidInput
from ops.api.requests import current_actor
from ops.api.schemas.providers import (
    ProviderChoiceSchema,
    ProvidersSchema,
    ProviderSwitchedSchema,
    ProviderTestedSchema,
)
from ops.providers.choice import ProviderSwitched, reset_provider, use_provider
from ops.providers.listing import Providers, list_providers
from ops.providers.testing import ProviderTested, send_test_request
from ops.runs.audit import audited

blueprint = Blueprint(
    "admin_providers",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/providers",
    description="AI providers, for operators",
)


@blueprint.route("")
class ProviderList(MethodView):
    @blueprint.response(200, ProvidersSchema)
    def get(self) -> Providers:
        """List all providers with their configuration and the default."""
        return list_providers()


@blueprint.route("/choice")
class ProviderChoice(MethodView):
    @blueprint.arguments(ProviderChoiceSchema)
    @blueprint.response(200, ProviderSwitchedSchema)
    @blueprint.raises(Conflict)
    def put(self, body: dict[str, Any]) -> ProviderSwitched:
        """Make a provider the default of all servers; requests and projects that name a provider keep it."""
        name, model = body["provider"], body["model"]
        with audited(actor=current_actor(), action="provider.use", target=name, details={"model": model}) as notes:
            switched = use_provider(name=name, model=model, by=current_actor())
            notes["previous"] = switched.previous
        return switched

    @blueprint.response(200, ProviderSwitchedSchema)
    def delete(self) -> ProviderSwitched:
        """Remove the choice, so that the settings apply again."""
        with audited(actor=current_actor(), action="provider.reset") as notes:
            switched = reset_provider(by=current_actor())
            notes["previous"] = switched.previous
        return switched


@blueprint.route("/<string:provider>/test")
class ProviderTest(MethodView):
    @blueprint.response(200, ProviderTestedSchema)
    @blueprint.raises(Conflict, InvalidInput)
    def post(self, provider: str) -> ProviderTested:
        """Send a short request to a provider; report its duration or the error."""
        with audited(actor=current_actor(), action="provider.test", target=provider) as notes:
            tested = send_test_request(provider)
            notes.update(ok=tested.ok, model=tested.model)
        return tested
