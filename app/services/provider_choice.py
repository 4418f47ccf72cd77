"""The default provider, used if neither the request nor its project names one: the operator's choice, else AI_PROVIDER.

The model that the operator chose belongs to that provider, as AI_MODEL belongs to AI_PROVIDER: the provider uses it
unless the request names another. A choice that this process cannot serve, because its settings have no key or URL for
that provider, is ignored and logged.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.providers.configured import ConfiguredProviders
from app.services.operator_settings import Choice

if TYPE_CHECKING:  # its cache and metrics are not needed to list providers
    from app.services.runtime_settings import RuntimeSettings

KEY = "provider"

_log = logging.getLogger("parley.providers")


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """A default provider. `model` None means its model in the settings; `by_operator` means chosen at run time."""

    name: str
    model: str | None = None
    by_operator: bool = False


class ProviderChoices:
    """The default provider of one process."""

    def __init__(self, providers: ConfiguredProviders, runtime: "RuntimeSettings") -> None:
        self._providers, self._runtime = providers, runtime
        self._ignored: Choice | None = None

    def current(self) -> ProviderChoice:
        """Return the current default, cached as by `RuntimeSettings.get`. Never raises."""
        return self.resolve(self._runtime.get(KEY))

    def last(self) -> ProviderChoice:
        """Return the default that this process used last, without a read."""
        return self.resolve(self._runtime.last(KEY))

    def resolve(self, choice: Choice | None) -> ProviderChoice:
        """Return the default provider for an operator's choice, or for none."""
        chosen = choose(self._providers, choice)
        if choice is not None and not chosen.by_operator and choice != self._ignored:
            self._ignored = choice
            name = choice.value.get("name") if isinstance(choice.value, dict) else None
            _log.warning("the chosen provider %s is not configured in this process, which uses AI_PROVIDER", name)
        return chosen


def choose(providers: ConfiguredProviders, choice: Choice | None) -> ProviderChoice:
    """Return the default provider for an operator's choice, or for none."""
    value = choice.value if choice is not None and isinstance(choice.value, dict) else {}
    if value.get("name") in providers.names:
        return ProviderChoice(value["name"], value.get("model"), by_operator=True)
    return ProviderChoice(providers.default.name)


def default_model(providers: ConfiguredProviders, name: str, current: ProviderChoice) -> str:
    """Return the default model of a configured provider: the chosen one if it is in use, else its own."""
    chosen = current.model if name == current.name else None
    return chosen or providers.get(name).default_model
