"""The official Python client at the endpoint MCP_URL with the key MCP_KEY: prints what it received as JSON.

Runs with the packages of `build/mcp/python`, which `.venv` does not have.
"""

import asyncio
import json
import os
import sys

import httpx2  # type: ignore[import-not-found]
from mcp import Client, MCPError  # type: ignore[import-not-found]
from mcp.client.streamable_http import streamable_http_client  # type: ignore[import-not-found]


async def main() -> None:
    """Do what a client can do, once."""
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        transport = streamable_http_client(os.environ["MCP_URL"], http_client=http)
        async with Client(transport, mode=os.environ["MCP_MODE"]) as client:
            resources = await client.list_resources()
            found = await client.call_tool("search_conversations", {"query": os.environ["MCP_QUERY"]})
            invalid = await client.call_tool("search_conversations", {"limit": 5})
            own = [resource.uri for resource in resources.resources if resource.uri.startswith("parley:")]
            [contents] = (await client.read_resource(own[0])).contents
            try:
                await client.call_tool("no_such_tool", {})
                unknown = ""
            except MCPError as error:
                unknown = error.error.message
            report = {
                "version": client.protocol_version,
                "server": client.server_info.name,
                "tools": [tool.name for tool in (await client.list_tools()).tools],
                "templates": [
                    item.uri_template for item in (await client.list_resource_templates()).resource_templates
                ],
                "uris": own,
                "text": contents.text,
                "found": found.structured_content,
                "invalid": invalid.is_error,
                "unknown": unknown,
            }
    json.dump(report, sys.stdout)


asyncio.run(main())
