"""The official Python client calls the tool MCP_TOOL with MCP_ARGUMENTS, and gives up when a line arrives at its input.

Then it calls `list_tasks` on the same connection and prints the titles as JSON.
Runs with the packages of `build/mcp/python`, which `.venv` does not have.
"""

import json
import os
import sys

import anyio
import anyio.to_thread
import httpx2  # type: ignore[import-not-found]
from mcp import Client  # type: ignore[import-not-found]
from mcp.client.streamable_http import streamable_http_client  # type: ignore[import-not-found]


async def main() -> None:
    """Begin a call, cancel it, and continue."""
    headers = {"Authorization": f"Bearer {os.environ['MCP_KEY']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(os.environ["MCP_URL"], http_client=http)
        async with Client(transport, mode=os.environ["MCP_MODE"]) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, os.environ["MCP_TOOL"], json.loads(os.environ["MCP_ARGUMENTS"]))
                await anyio.to_thread.run_sync(sys.stdin.readline)
                group.cancel_scope.cancel()
            tasks = (await client.call_tool("list_tasks", {})).structured_content["tasks"]
            json.dump([task["title"] for task in tasks], sys.stdout)
            sys.stdout.flush()
            await anyio.to_thread.run_sync(sys.stdin.readline)


anyio.run(main)
