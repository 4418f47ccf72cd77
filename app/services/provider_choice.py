"""Which provider answers where neither the request nor its project names one: the operator's choice, else AI_PROVIDER.

The model that is chosen along with it belongs to it, as AI_MODEL belongs to AI_PROVIDER: it answers wherever that
provider does and nobody names a model. A choice that this process cannot serve, because its settings lack what that
provider needs, counts for nothing here, and is logged.
"""

import logging
from dataclasses import dataclass

from app.providers.registry import ProviderRegistry
from app.services.runtime_settings import Choice, RuntimeSettings

KEY = "provider"

_log = logging.getLogger("parley.providers")


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """`model` None means the one that the settings give it. `operators`: chosen at run time."""

    name: str
    model: str | None = None
    operators: bool = False


class ProviderChoices:
    """What one process goes by."""

    def __init__(self, providers: ProviderRegistry, runtime: RuntimeSettings) -> None:
        self._providers, self._runtime = providers, runtime
        self._ignored: Choice | None = None

    def current(self) -> ProviderChoice:
        """The one that holds now; see `RuntimeSettings.get` for how it is known. Never raises."""
        return self.of(self._runtime.get(KEY))

    def last(self) -> ProviderChoice:
        """The one that this process went by last."""
        return self.of(self._runtime.last(KEY))

    def of(self, choice: Choice | None) -> ProviderChoice:
        """What this process goes by where an operator chose that, or nothing."""
        if choice is not None:
            value = choice.value if isinstance(choice.value, dict) else {}
            name, model = value.get("name"), value.get("model")
            if name in self._providers.names:
                return ProviderChoice(name, model, operators=True)
            if choice != self._ignored:
                self._ignored = choice
                _log.warning("the chosen provider %s is not configured in this process; it goes by AI_PROVIDER", name)
        return ProviderChoice(self._providers.default.name)
