"""MCP servers for operators: registration, allowed tools, tests, and the job that reads their lists of tools."""
