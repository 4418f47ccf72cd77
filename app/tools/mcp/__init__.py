"""MCP servers that operators register, as a source of tools: a synchronous client for both eras of the protocol."""
