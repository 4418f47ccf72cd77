"""What a caller may choose among: providers and their models."""

from typing import Any

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.schemas.models import ModelsSchema
from app.services.container import services

blueprint = Blueprint(
    "models", __name__, url_prefix="/api/models", access=Access.USER, description="Providers and their models"
)


@blueprint.route("")
@blueprint.response(200, ModelsSchema)
def models() -> dict[str, Any]:
    """The providers that you may name, and their models, as their own lists had them some minutes ago"""
    return {"providers": services().models.all()}
