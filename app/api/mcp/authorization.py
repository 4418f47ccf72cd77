"""Discovery of authorization servers: metadata of the protected resource (RFC 9728), and the challenge of a 401.

The metadata must name an authorization server. Without one, a client gets a token or an API key as every caller does,
and a 401 says `Bearer` only.
"""

from typing import Any
from urllib.parse import urlsplit

from flask import Response
from flask.views import MethodView

from app.api.access import Access, refused_identity
from app.api.blueprint import Blueprint
from app.api.schemas.mcp import ResourceMetadataSchema
from app.config import Auth
from app.container import current_settings
from app.enums import KeyScope
from app.errors import NotFound

SCOPES = (KeyScope.READ, KeyScope.WRITE)

blueprint = Blueprint(
    "mcp_metadata", __name__, access=Access.PUBLIC, description="Where clients of MCP get a token (RFC 9728)"
)


@blueprint.route("/.well-known/oauth-protected-resource/mcp")
class ResourceMetadata(MethodView):
    @blueprint.response(200, ResourceMetadataSchema)
    @blueprint.raises(NotFound)
    def get(self) -> dict[str, Any]:
        """Get the authorization servers of `/mcp`; 404 if none is configured."""
        settings = current_settings().auth
        if not settings.mcp_authorization_servers:
            raise NotFound("No authorization server is configured: use an access token or an API key of this server.")
        return {
            "resource": settings.mcp_url,
            "authorization_servers": list(settings.mcp_authorization_servers),
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
            "resource_name": "Parley",
        }


def add_challenge(response: Response) -> Response:
    """Name the metadata in a 401, and in a 403 that an API key without the scope gets, if there is any."""
    settings = current_settings().auth
    lacks_scope = response.status_code == 403 and refused_identity() is not None
    if settings.mcp_authorization_servers and (response.status_code == 401 or lacks_scope):
        parameters = [f'resource_metadata="{_metadata_url(settings)}"', f'scope="{" ".join(SCOPES)}"']
        if lacks_scope:
            parameters.insert(0, 'error="insufficient_scope"')
        response.headers["WWW-Authenticate"] = f"Bearer {', '.join(parameters)}"
    return response


def _metadata_url(settings: Auth) -> str:
    """Return the URL of the metadata: the well-known path stands between host and path of the resource's URL."""
    url = urlsplit(settings.mcp_url or "")
    return f"{url.scheme}://{url.netloc}/.well-known/oauth-protected-resource{url.path}"
