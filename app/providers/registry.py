"""The clients of the configured providers, made once and shared by all threads."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from app.config import Provider as ProviderSettings
from app.config.values import ProviderName
from app.outbound.timeouts import Timeouts
from app.providers.base import ChatRequest, Provider, StreamEvent
from app.providers.chat_completions import ChatCompletions
from app.providers.compatible import CompatibleProvider
from app.providers.configured import ConfiguredProvider, ConfiguredProviders
from app.providers.demo import DemoProvider
from app.providers.openai import OpenAIProvider
from app.providers.openrouter import OpenRouterProvider
from app.providers.router import ProviderRouter

_REMOTE: Mapping[ProviderName, type[ChatCompletions]] = MappingProxyType(
    {"openai": OpenAIProvider, "openrouter": OpenRouterProvider, "compatible": CompatibleProvider}
)


class ProviderRegistry:
    """The clients of all configured providers."""

    def __init__(self, settings: ProviderSettings, configured: ConfiguredProviders | None = None) -> None:
        """Make the clients. Raises `SettingsError` as `ConfiguredProviders` does, unless those are given."""
        self.configured = configured or ConfiguredProviders(settings)
        self._providers: dict[str, Provider] = {
            name: _build(self.configured.get(name), settings) for name in self.configured.names
        }
        self._router = ProviderRouter(self._providers, settings)

    @property
    def default(self) -> Provider:
        """The default provider."""
        return self._providers[self.configured.default.name]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `get` accepts, the default first."""
        return self.configured.names

    def get(self, name: str | None) -> Provider:
        """Return the provider of this name, or the default for None. Raises `InvalidInput` for an unknown one."""
        return self._providers[self.configured.get(name).name]

    def stream(
        self, name: str | None, request: ChatRequest, *, replaceable: bool = False
    ) -> AbstractContextManager[tuple[Provider, Iterator[StreamEvent]]]:
        """Return the provider that answers and its answer, after retries, from a fallback too if `replaceable`.

        Raises `InvalidInput` as `get` does, and `ProviderError` when entered or iterated; see `Provider.stream`.
        """
        return self._router.stream(self.get(name).name, request, replaceable=replaceable)


def _build(configured: ConfiguredProvider, settings: ProviderSettings) -> Provider:
    if configured.name == "demo":
        return DemoProvider(model=configured.default_model, delay=settings.demo_pause_ms / 1000)
    timeouts = Timeouts(
        connect=settings.connect_timeout,
        first_token=settings.first_token_timeout,
        idle=settings.idle_timeout,
        total=settings.total_timeout,
    )
    return _REMOTE[configured.name](
        base_url=configured.base_url,
        api_key=configured.key,
        model=configured.default_model,
        timeouts=timeouts,
        takes_images=configured.name in settings.image_providers,
    )
