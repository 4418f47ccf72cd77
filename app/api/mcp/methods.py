"""The methods of MCP that this server has, and their results in the form of the request's revision."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from mcp_types import (
    SERVER_INFO_META_KEY,
    DiscoverResult,
    EmptyResult,
    Implementation,
    InitializeResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    ReadResourceResult,
    ResourcesCapability,
    Result,
    ServerCapabilities,
    ToolsCapability,
)
from mcp_types.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_types.methods import serialize_server_result, validate_client_request
from pydantic import ValidationError

from app.api.access import caller
from app.api.mcp import tools
from app.api.mcp.errors import McpError
from app.api.mcp.messages import Message
from app.api.mcp.offer import current_offer
from app.api.mcp.protocol import HANDSHAKE, STATELESS, Revision
from app.errors import InvalidInput, NotFound
from app.outbound.cancellation import CancelToken

TOOLS_TTL_MS = 300_000  # tools change only when the server is updated or its settings change
_RESOURCE_NOT_FOUND = -32002  # of the revisions with a handshake; INVALID_PARAMS in later ones
_CALL = "tools/call"
_SHOWN = 200  # characters of a client's value in an error

INSTRUCTIONS = (
    "Parley stores conversations of its users with AI models. The tools act for the user whose token or API key the "
    "request has. Resources are the user's conversations in Markdown; find one with the tool `search_conversations`."
)
_CAPABILITIES = ServerCapabilities(tools=ToolsCapability(), resources=ResourcesCapability())
_SERVER = Implementation(name="parley", title="Parley", version=version("parley"))


def result_of(message: Message, revision: Revision, cancel_token: CancelToken) -> dict[str, Any]:
    """Return the result of a request. `cancel_token` ends a call. Raises `McpError`, and errors of services."""
    handler = partial(_call_tool, cancel_token) if message.method == _CALL else _HANDLERS.get(message.method)
    try:
        if handler is None:
            raise KeyError(message.method)
        validate_client_request(message.method, revision.version, message.params)
    except KeyError:
        raise _not_found(message.method, revision) from None
    except ValidationError as error:
        raise McpError(INVALID_PARAMS, _explained(error)) from None
    try:
        result = handler(message.params)
    except InvalidInput as error:
        fields = [f"{name}: {' '.join(problems)}" for name, problems in (error.fields or {}).items()]
        raise McpError(INVALID_PARAMS, " ".join(fields) or error.detail) from None
    except NotFound as error:
        code = INVALID_PARAMS if revision.is_stateless else _RESOURCE_NOT_FOUND
        raise McpError(code, error.detail, data={"uri": message.params.get("uri")}) from None
    data = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    serialized = serialize_server_result(message.method, revision.version, data)
    if revision.is_stateless:
        serialized["_meta"] = {SERVER_INFO_META_KEY: _SERVER.model_dump(mode="json", by_alias=True, exclude_none=True)}
    return serialized


def _not_found(method: str, revision: Revision) -> McpError:
    return McpError(
        METHOD_NOT_FOUND,
        f"This server has no method `{method[:_SHOWN]}` in the revision {revision.version}.",
        status=404,
    )


def _explained(error: ValidationError) -> str:
    """Return the first problem with the parameters, without their values."""
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, problem['loc']))[:_SHOWN]}: {problem['msg'][:_SHOWN]}"


def _initialize(params: Mapping[str, Any]) -> Result:
    requested = params["protocolVersion"]
    return InitializeResult(
        protocol_version=requested if requested in HANDSHAKE else HANDSHAKE[-1],
        capabilities=_CAPABILITIES,
        server_info=_SERVER,
        instructions=INSTRUCTIONS,
    )


def _ping(_params: Mapping[str, Any]) -> Result:
    return EmptyResult()


def _discover(_params: Mapping[str, Any]) -> Result:
    return DiscoverResult(
        supported_versions=list(STATELESS),
        capabilities=_CAPABILITIES,
        instructions=INSTRUCTIONS,
        ttl_ms=TOOLS_TTL_MS,
        cache_scope="private",
    )


def _list_tools(params: Mapping[str, Any]) -> Result:
    _refuse_cursor(params)
    offered = [tools.describe(tool) for tool in current_offer().tools(caller().user_id)]
    return ListToolsResult(tools=offered, ttl_ms=TOOLS_TTL_MS, cache_scope="private")


def _call_tool(cancel_token: CancelToken, params: Mapping[str, Any]) -> Result:
    return tools.call(params["name"], params.get("arguments") or {}, cancel_token)


def _list_resources(params: Mapping[str, Any]) -> Result:
    resources, next_cursor = current_offer().resources.page(caller().user_id, params.get("cursor"))
    return ListResourcesResult(resources=list(resources), next_cursor=next_cursor, ttl_ms=0, cache_scope="private")


def _list_templates(params: Mapping[str, Any]) -> Result:
    _refuse_cursor(params)
    templates = list(current_offer().resources.templates())
    return ListResourceTemplatesResult(resource_templates=templates, ttl_ms=TOOLS_TTL_MS, cache_scope="private")


def _read_resource(params: Mapping[str, Any]) -> Result:
    contents = current_offer().resources.read(caller().user_id, params["uri"])
    return ReadResourceResult(contents=list(contents), ttl_ms=0, cache_scope="private")


def _refuse_cursor(params: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for a cursor of a list that has one page."""
    if params.get("cursor") is not None:
        raise InvalidInput("This is not a cursor of this list, which has one page.")


_HANDLERS: Mapping[str, Callable[[Mapping[str, Any]], Result]] = {
    "initialize": _initialize,
    "ping": _ping,
    "server/discover": _discover,
    "tools/list": _list_tools,
    "resources/list": _list_resources,
    "resources/templates/list": _list_templates,
    "resources/read": _read_resource,
}
