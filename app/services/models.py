"""The providers that a caller may choose, and their models: from each provider's own list, remembered for a while."""

from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from app.errors import ProviderError, Unavailable
from app.providers.registry import ProviderRegistry
from app.services.caches import Ages, Cache
from app.services.provider_choice import ProviderChoices

# A list that is ten minutes old is looked up again; while that fails, the old one is told for a day.
AGES = Ages(fresh=600, usable=3600, wait=5, retry=30, kept=86_400)


@dataclass(frozen=True, slots=True)
class ListedModels:
    """What a provider said that it has, and when."""

    names: list[str]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderModels:
    """A provider with its models, `default_model` first. `listed_at` is None where the provider has given no list."""

    name: str
    default_model: str
    models: list[str]
    listed_at: datetime | None


class ModelLists:
    """The lists that one process knows. Thread-safe."""

    def __init__(self, providers: ProviderRegistry, choices: ProviderChoices) -> None:
        self._providers, self._choices = providers, choices
        self._cache: Cache[str, ListedModels] = Cache("models", self._look_up, AGES, size=len(providers.names))

    def all(self) -> list[ProviderModels]:
        """Those of every provider, the one first that answers by default. Waits for new lists AGES.wait seconds at
        most; a provider that has given none still has its default model. Never raises."""
        choice, until = self._choices.current(), monotonic() + AGES.wait
        for name in self._providers.names:
            self._cache.begin(name)
        found = []
        for name in sorted(self._providers.names, key=lambda name: (name != choice.name, name)):
            listed = self._listed(name, max(0.0, until - monotonic()))
            chosen = choice.model if name == choice.name else None
            default = chosen or self._providers.get(name).default_model
            names = listed.names if listed else []
            models = [default, *(each for each in names if each != default)]
            at = listed.at if listed else None
            found.append(ProviderModels(name=name, default_model=default, models=models, listed_at=at))
        return found

    def _listed(self, name: str, wait: float) -> ListedModels | None:
        try:
            return self._cache.get(name, wait)
        except (ProviderError, Unavailable):
            return None

    def _look_up(self, name: str) -> ListedModels:
        return ListedModels(self._providers.get(name).models(), datetime.now(UTC))
