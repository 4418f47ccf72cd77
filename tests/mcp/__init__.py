"""The MCP server under the official clients and the public conformance suite."""
