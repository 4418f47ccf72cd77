"""All settings with their types, bounds and defaults, read once from the environment and `.env`.

The environment has precedence over `.env`; an empty value counts as unset. Secrets are `SecretStr`, so that no repr,
log line or traceback shows them.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.config.auth import Auth, Limits
from app.config.chat import Chat, Provider
from app.config.database import Database
from app.config.env_file import env_file_errors, read_variables
from app.config.files import Files, check_files
from app.config.jobs import Jobs
from app.config.mail import Mail
from app.config.mcp_servers import McpServers
from app.config.server import Server
from app.config.storage import Archive, Backups, check_backups
from app.config.tools import Tools
from app.config.values import Group, ProviderName
from app.errors import SettingsError

__all__ = [
    "GROUPS",
    "NAMES",
    "Archive",
    "Auth",
    "Backups",
    "Chat",
    "Database",
    "Files",
    "Jobs",
    "Limits",
    "Mail",
    "McpServers",
    "Provider",
    "Server",
    "Settings",
    "Tools",
    "load_settings",
]


@dataclass(frozen=True)
class Settings:
    """All groups of settings."""

    server: Server
    database: Database
    jobs: Jobs
    archive: Archive
    auth: Auth
    limits: Limits
    chat: Chat
    provider: Provider
    backups: Backups
    files: Files
    mail: Mail
    tools: Tools
    mcp_servers: McpServers


GROUPS: types.MappingProxyType[str, type[Group]] = types.MappingProxyType(
    {
        "server": Server,
        "database": Database,
        "jobs": Jobs,
        "archive": Archive,
        "auth": Auth,
        "limits": Limits,
        "chat": Chat,
        "provider": Provider,
        "backups": Backups,
        "files": Files,
        "mail": Mail,
        "tools": Tools,
        "mcp_servers": McpServers,
    }
)

NAMES = tuple(str(field.validation_alias) for group in GROUPS.values() for field in group.model_fields.values())


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Read every group from the environment and `env_file`.

    Raises `SettingsError` with one line per invalid setting, which names the variable and never its value.
    """
    groups: dict[str, Group] = {}
    errors = list(env_file_errors(env_file, NAMES)) if env_file else []
    if errors:
        raise SettingsError("\n".join(errors))
    variables = read_variables(env_file)
    for name, group in GROUPS.items():
        try:
            groups[name] = group.model_validate(variables)
        except ValidationError as error:
            errors += [f"{'.'.join(map(str, item['loc']))}: {_message(item)}" for item in error.errors()]
    if errors:
        raise SettingsError("\n".join(errors))
    settings = Settings(**groups)  # type: ignore[arg-type]  # GROUPS pairs each name with its class
    _check_provider(settings.provider)
    check_backups(settings.backups)
    check_files(settings.files)
    if settings.mail.smtp_url is not None and settings.mail.sender is None:
        raise SettingsError("MAIL_FROM: required because SMTP_URL is set")
    if settings.auth.mcp_authorization_servers and settings.auth.mcp_url is None:
        raise SettingsError("MCP_URL: required because MCP_AUTHORIZATION_SERVERS is set")
    return settings


def _message(item: Mapping[str, Any]) -> str:
    if item["type"] == "too_short":  # of a secret; pydantic calls its characters "items"
        return f"must have at least {item['ctx']['min_length']} characters"
    return str(item["msg"]).removeprefix("Value error, ")


def _check_provider(provider: Provider) -> None:
    """Raise `SettingsError` if a named provider lacks its key or URL, at start instead of at the first chat."""
    requirements: dict[ProviderName, tuple[str, object]] = {
        "openai": ("OPENAI_API_KEY", provider.openai_api_key),
        "openrouter": ("OPENROUTER_API_KEY", provider.openrouter_api_key),
        "compatible": ("OPENAI_BASE_URL", provider.openai_base_url),
    }
    named = [("AI_PROVIDER", provider.name or "demo"), *(("AI_FALLBACK", name) for name in provider.fallback)]
    for setting, name in named:
        variable, value = requirements.get(name, ("", True))
        if not value:
            raise SettingsError(f"{variable}: required because {setting} names {name}; set it or change {setting}")
