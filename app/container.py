"""The settings and services of a process, held by its Flask application."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import Flask, current_app

from app.config import Settings
from app.database import current_engine, current_engines
from app.errors import SettingsError

if TYPE_CHECKING:  # imported when they are created: a command that needs the database only does without
    from app.providers.configured import ConfiguredProviders
    from app.providers.registry import ProviderRegistry
    from app.services.attempts import AttemptLimits
    from app.services.file_uploads import FileUploads
    from app.services.key_uses import KeyUses
    from app.services.limit_counters import LimitCounters
    from app.services.model_lists import ModelLists
    from app.services.passwords import PasswordHasher
    from app.services.provider_choice import ProviderChoices
    from app.services.runtime_settings import RuntimeSettings
    from app.services.storage_room import StorageRoom
    from app.tools.registry import ToolRegistry
    from app.tools.tool import ToolSource
    from app.turns.engine import TurnEngine

# In `Flask.extensions`.
_SETTINGS, _PROVIDERS = "parley.settings", "parley.providers"
_REGISTRY, _SERVICES = "parley.registry", "parley"


@dataclass(frozen=True)
class ProviderServices:
    """The configured providers, and which of them is the default; most commands about providers need nothing else."""

    configured: "ConfiguredProviders"
    runtime: "RuntimeSettings"
    choices: "ProviderChoices"


@dataclass(frozen=True)
class Services:
    """Objects that live as long as the process, one set per application."""

    settings: Settings
    providers: "ProviderRegistry"
    passwords: "PasswordHasher"
    turns: "TurnEngine"
    key_uses: "KeyUses"
    counters: "LimitCounters"
    attempts: "AttemptLimits"
    runtime: "RuntimeSettings"
    choices: "ProviderChoices"
    models: "ModelLists"
    room: "StorageRoom"
    uploads: "FileUploads"
    tools: "ToolRegistry"


def init_app(flask_app: Flask, settings: Settings) -> None:
    """Store the settings that `current_settings` and `services` use."""
    flask_app.extensions[_SETTINGS] = settings


def current_settings() -> Settings:
    """Return the settings of the current application."""
    return cast(Settings, current_app.extensions[_SETTINGS])


def provider_services() -> ProviderServices:
    """Return the configured providers of the current application, read by the first call. Raises `SettingsError`."""
    if _PROVIDERS not in current_app.extensions:
        current_app.extensions[_PROVIDERS] = _create_provider_services(current_settings())
    return cast(ProviderServices, current_app.extensions[_PROVIDERS])


def provider_registry() -> "ProviderRegistry":
    """Return the clients of the current application's providers, created by the first call. Raises `SettingsError`."""
    if _REGISTRY not in current_app.extensions:
        from app.providers.registry import ProviderRegistry

        configured = provider_services().configured
        current_app.extensions[_REGISTRY] = ProviderRegistry(current_settings().provider, configured)
    return cast("ProviderRegistry", current_app.extensions[_REGISTRY])


def services() -> Services:
    """Return the services of the current application, created by the first call.

    Raises `SettingsError` without JWT_SECRET_KEY.
    """
    if _SERVICES not in current_app.extensions:
        current_app.extensions[_SERVICES] = _create_services(current_settings())
    return cast(Services, current_app.extensions[_SERVICES])


def _create_provider_services(settings: Settings) -> ProviderServices:
    from app.providers.configured import ConfiguredProviders
    from app.services.provider_choice import ProviderChoices
    from app.services.runtime_settings import RuntimeSettings

    configured, runtime = ConfiguredProviders(settings.provider), RuntimeSettings(current_engine())
    return ProviderServices(configured, runtime, ProviderChoices(configured, runtime))


def _create_services(settings: Settings) -> Services:
    from app.services.attempts import AttemptLimits
    from app.services.file_text_requests import ExtractionRequests
    from app.services.file_uploads import FileUploads
    from app.services.key_uses import KeyUses
    from app.services.limit_counters import limit_counters
    from app.services.model_lists import ModelLists
    from app.services.passwords import PasswordHasher
    from app.services.search_requests import IndexRequests
    from app.services.storage_room import StorageRoom
    from app.tools.registry import ToolRegistry
    from app.turns.engine import TurnEngine

    if settings.auth.jwt_secret_key is None:
        raise SettingsError("JWT_SECRET_KEY: set it to at least 32 random characters")
    jobs, of_providers = current_app.extensions["jobs"], provider_services()
    providers, choices = provider_registry(), of_providers.choices
    counters = limit_counters(settings, jobs)
    room = StorageRoom(settings.database, of_providers.runtime)
    flask_app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy
    uploads = FileUploads(settings, room, ExtractionRequests(jobs).add)
    tools = ToolRegistry(_tool_sources(settings), settings.tools, flask_app.app_context)
    return Services(
        settings=settings,
        providers=providers,
        passwords=PasswordHasher(queue=settings.auth.password_queue),
        turns=TurnEngine(
            current_engine(),
            providers,
            settings.chat,
            choices,
            tools,
            IndexRequests(jobs).add,
            heartbeat_engine=current_engines()["heartbeats"],
            files=settings.files,
            open_file_store=lambda: uploads.store,
            no_room=room.error,
        ),
        key_uses=KeyUses(current_engine()),
        counters=counters,
        attempts=AttemptLimits(counters, settings.limits, settings.auth.jwt_secret_key.get_secret_value()),
        runtime=of_providers.runtime,
        choices=choices,
        models=ModelLists(providers, choices),
        room=room,
        uploads=uploads,
        tools=tools,
    )


def _tool_sources(settings: Settings) -> "Sequence[ToolSource]":
    """Return the sources of tools; a name counts for the first source that has it."""
    from app.services.mcp_servers import McpServers
    from app.services.secret_box import secret_box
    from app.services.todos import TodoLimits
    from app.tools.mcp.policy import address_policy
    from app.tools.mcp.source import McpTools
    from app.tools.todos import TodoTools

    servers = McpServers(current_engine(), lambda: secret_box(settings))
    return (TodoTools(TodoLimits.of(settings.chat)), McpTools(servers.enabled, address_policy(settings.mcp_servers)))
