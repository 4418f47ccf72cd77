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


async def change_tasks(client: Client) -> list[str]:
    """Call every tool for tasks, and return the titles in two lists. The last one is empty."""
    listed = []

    async def titles() -> list[str]:
        result = await client.call_tool("list_tasks", {})
        return [task["title"] for task in result.structured_content["tasks"]]

    added = await client.call_tool("add_task", {"title": "Buy milk", "description": "Two bottles"})
    task = {"task_id": added.structured_content["task"]["id"]}
    await client.call_tool("update_task", {**task, "title": "Buy oat milk", "description": ""})
    await client.call_tool("complete_task", task)
    listed += await titles()
    await client.call_tool("delete_task", task)
    return listed + await titles()


async def main() -> None:
    """Do what a client can do, once."""
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        transport = streamable_http_client(os.environ["MCP_URL"], http_client=http)
        async with Client(transport, mode=os.environ["MCP_MODE"]) as client:
            tools = (await client.list_tools()).tools  # from now on, the client validates structured results
            resources = await client.list_resources()
            tasks = await change_tasks(client)
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
                "tools": [tool.name for tool in tools if tool.output_schema],
                "templates": [
                    item.uri_template for item in (await client.list_resource_templates()).resource_templates
                ],
                "uris": own,
                "text": contents.text,
                "found": found.structured_content,
                "tasks": tasks,
                "invalid": invalid.is_error,
                "unknown": unknown,
            }
    json.dump(report, sys.stdout)


asyncio.run(main())
