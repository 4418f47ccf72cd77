"""The providers that callers may choose, with their models, from cached lists of the providers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from app.errors import ProviderError, Unavailable
from app.providers.registry import ProviderRegistry
from app.services.caches import Cache, CachePolicy
from app.services.provider_choice import ProviderChoices

# A list is loaded again after ten minutes; if that fails, the old one is used for a day.
POLICY = CachePolicy(fresh_for=600, stale_for=3600, max_wait=5, retry_after=30, max_age=86_400)


@dataclass(frozen=True, slots=True)
class ListedModels:
    """The list of a provider, and the time of its load."""

    names: list[str]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderModels:
    """A provider with its models, `default_model` first. `listed_at` is None if it has no list."""

    name: str
    default_model: str
    models: list[str]
    listed_at: datetime | None


class ModelLists:
    """The lists of one process. Thread-safe."""

    def __init__(self, providers: ProviderRegistry, choices: ProviderChoices) -> None:
        self._providers, self._choices = providers, choices
        self._cache: Cache[str, ListedModels] = Cache("models", self._load, POLICY, size=len(providers.names))

    def all(self) -> list[ProviderModels]:
        """Return the models of all providers, the default provider first. Waits POLICY.max_wait seconds at most.

        A provider without a list has its default model only. Never raises.
        """
        choice, until = self._choices.current(), monotonic() + POLICY.max_wait
        for name in self._providers.names:
            self._cache.prefetch(name)
        result = []
        for name in sorted(self._providers.names, key=lambda name: (name != choice.name, name)):
            listed = self._listed(name, max(0.0, until - monotonic()))
            chosen = choice.model if name == choice.name else None
            default = chosen or self._providers.get(name).default_model
            names = listed.names if listed else []
            models = [default, *(model for model in names if model != default)]
            at = listed.at if listed else None
            result.append(ProviderModels(name=name, default_model=default, models=models, listed_at=at))
        return result

    def _listed(self, name: str, wait: float) -> ListedModels | None:
        try:
            return self._cache.get(name, wait)
        except (ProviderError, Unavailable):
            return None

    def _load(self, name: str) -> ListedModels:
        return ListedModels(self._providers.get(name).models(), datetime.now(UTC))
