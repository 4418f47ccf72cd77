"""The providers and models that callers can choose."""

from typing import Any

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.schemas.models import ModelsSchema
from app.container import services

blueprint = Blueprint(
    "models", __name__, url_prefix="/api/models", access=Access.USER, description="Providers and their models"
)


@blueprint.route("")
@blueprint.response(200, ModelsSchema)
def models() -> dict[str, Any]:
    """List providers and their models, as the providers listed them within the last minutes."""
    return {"providers": services().models.all()}
