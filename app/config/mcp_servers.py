"""Settings of MCP servers as a source of tools, and of the secrets that are stored for them."""

from pydantic import Field, SecretStr

from app.config.values import Group, HostNames, PreviousKeys


class McpServers(Group):
    private_hosts: HostNames = Field(
        (),
        validation_alias="MCP_PRIVATE_HOSTS",
        description="Hosts of MCP servers that may have private or loopback addresses and be called over http,"
        " separated by commas; all others must have public addresses and https.",
    )
    secrets_key: SecretStr | None = Field(
        None,
        min_length=32,
        validation_alias="SECRETS_KEY",
        description="Key that encrypts stored secrets, such as the headers of MCP servers, at least 32 characters;"
        " unset uses a key derived from JWT_SECRET_KEY.",
    )
    secrets_previous_keys: PreviousKeys = Field(
        (),
        validation_alias="SECRETS_PREVIOUS_KEYS",
        description="Earlier values of SECRETS_KEY that still decrypt, separated by commas; `flask ops mcp rotate`"
        " encrypts everything with the current key.",
    )
