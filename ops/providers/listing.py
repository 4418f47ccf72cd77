"""The list of all AI providers, with their configuration and the default."""

from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from app.config.values import ProviderName
from app.container import current_settings
from app.database import current_engine
from app.providers.configured import ConfiguredProviders, missing_setting
from app.services.operator_settings import read_choices
from app.services.provider_choice import KEY, choose, default_model

NAMES: tuple[ProviderName, ...] = get_args(ProviderName)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSummary:
    """A provider. `model` is its default model; `missing_setting` names what it needs to be configured."""

    name: str
    in_use: bool
    configured: bool
    model: str | None = None
    missing_setting: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """The providers. `in_use` is the default for requests and projects without a provider; `reason` says who set it."""

    in_use: str
    reason: str
    since: datetime | None
    fallback: tuple[str, ...]
    providers: list[ProviderSummary]


def list_providers() -> Providers:
    """Return all providers with this process's settings, and the current choice. Raises `DatabaseUnavailable`."""
    settings = current_settings().provider
    configured = ConfiguredProviders(settings)
    choice = read_choices(current_engine()).get(KEY)
    current = choose(configured, choice)
    reason, since = "AI_PROVIDER" if settings.name else "the first with a key or URL, else the demo", None
    if choice is not None and current.by_operator:
        reason, since = f"chosen by {choice.value.get('by') or 'an operator'}", choice.at
    elif choice is not None:
        chosen = choice.value.get("name") if isinstance(choice.value, dict) else choice.value
        reason = f"{reason}: {chosen}, chosen by an operator, is not configured here"
    summaries = [
        ProviderSummary(
            name=name,
            in_use=name == current.name,
            configured=name in configured.names,
            model=default_model(configured, name, current) if name in configured.names else None,
            missing_setting=missing_setting(settings, name),
        )
        for name in NAMES
    ]
    return Providers(in_use=current.name, reason=reason, since=since, fallback=settings.fallback, providers=summaries)
