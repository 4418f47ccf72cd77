"""MCP servers: registration, allowed tools, and tests."""

from typing import Any

from flask.views import MethodView

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.errors import Conflict, InvalidInput, NotFound
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.mcp import McpAllowSchema, McpServerAddSchema, McpToolsSchema
from ops.mcp import check, servers
from ops.mcp.reports import McpServerRemoved, McpServersReport, McpServerStatus, McpServerTested, SecretsRotated
from ops.runs.audit import audited

blueprint = Blueprint(
    "admin_mcp",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/mcp",
    description="MCP servers, for operators",
)


@blueprint.route("")
class McpServerList(MethodView):
    @blueprint.response(200, schema_of(McpServersReport))
    def get(self) -> McpServersReport:
        """List the MCP servers and their tools, as they were listed last."""
        return servers.list_servers()

    @blueprint.arguments(McpServerAddSchema)
    @blueprint.response(201, schema_of(McpServerStatus))
    @blueprint.raises(InvalidInput, Conflict)
    def post(self, body: dict[str, Any]) -> McpServerStatus:
        """Register an MCP server without any allowed tool; nothing is sent to it.

        Test it to list its tools.
        """
        by = current_actor()
        details = {"url": body["url"], "headers": sorted(body["headers"])}
        with audited(actor=by, action="mcp.add", target=body["name"], details=details):
            return servers.add_server(
                name=body["name"],
                url=body["url"],
                headers=body["headers"],
                by=by,
                enabled=body["enabled"],
                needs_approval=body["needs_approval"],
                connect=body["connect_seconds"],
                call=body["call_seconds"],
                total=body["total_seconds"],
            )


@blueprint.route("/secrets/rotate")
class McpRotation(MethodView):
    @blueprint.response(200, schema_of(SecretsRotated))
    def post(self) -> SecretsRotated:
        """Encrypt the stored headers of all servers with the current key."""
        with audited(actor=current_actor(), action="mcp.rotate") as notes:
            rotated = servers.rotate_secrets()
            notes.update(rotated=rotated.rotated, unreadable=rotated.unreadable)
        return rotated


@blueprint.route("/<string:server>")
class McpServerItem(MethodView):
    @blueprint.response(200, schema_of(McpServerRemoved))
    @blueprint.raises(NotFound)
    def delete(self, server: str) -> McpServerRemoved:
        """Delete an MCP server with its headers and what is allowed of it."""
        with audited(actor=current_actor(), action="mcp.remove", target=server):
            return servers.remove_server(name=server)


@blueprint.route("/<string:server>/test")
class McpServerTest(MethodView):
    @blueprint.response(200, schema_of(McpServerTested))
    @blueprint.raises(NotFound)
    def post(self, server: str) -> McpServerTested:
        """List the tools of an MCP server again."""
        with audited(actor=current_actor(), action="mcp.test", target=server) as notes:
            tested = check.test_server(server)
            notes["ok"] = tested.ok
        return tested


@blueprint.route("/<string:server>/allow")
class McpAllow(MethodView):
    @blueprint.arguments(McpAllowSchema)
    @blueprint.response(200, schema_of(McpServerStatus))
    @blueprint.raises(NotFound)
    def post(self, body: dict[str, Any], server: str) -> McpServerStatus:
        """Allow tools of an MCP server as they are defined now.

        A tool whose definition changes is withdrawn until it is allowed again.
        """
        by = current_actor()
        with audited(actor=by, action="mcp.allow", target=server, details=body):
            return servers.allow_tools(name=server, tools=body["tools"], by=by, needs_approval=body["needs_approval"])


@blueprint.route("/<string:server>/disallow")
class McpDisallow(MethodView):
    @blueprint.arguments(McpToolsSchema)
    @blueprint.response(200, schema_of(McpServerStatus))
    @blueprint.raises(NotFound)
    def post(self, body: dict[str, Any], server: str) -> McpServerStatus:
        """Withdraw allowed tools of an MCP server."""
        by = current_actor()
        with audited(actor=by, action="mcp.disallow", target=server, details=body):
            return servers.disallow_tools(name=server, tools=body["tools"], by=by)


@blueprint.route("/<string:server>/enable")
class McpEnable(MethodView):
    @blueprint.response(200, schema_of(McpServerStatus))
    @blueprint.raises(NotFound)
    def post(self, server: str) -> McpServerStatus:
        """Let turns call the allowed tools of an MCP server again."""
        by = current_actor()
        with audited(actor=by, action="mcp.enable", target=server):
            return servers.set_enabled(name=server, enabled=True, by=by)


@blueprint.route("/<string:server>/disable")
class McpDisable(MethodView):
    @blueprint.response(200, schema_of(McpServerStatus))
    @blueprint.raises(NotFound)
    def post(self, server: str) -> McpServerStatus:
        """Offer no tool of an MCP server to turns; what is allowed is kept."""
        by = current_actor()
        with audited(actor=by, action="mcp.disable", target=server):
            return servers.set_enabled(name=server, enabled=False, by=by)
