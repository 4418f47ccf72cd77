"""Which providers this configuration can serve, and the one that answers when nobody chooses."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.config import Provider as ProviderSettings
from app.config_values import ProviderName
from app.errors import InvalidInput, SettingsError
from app.providers.base import ChatRequest, Provider, StreamEvent, Timeouts
from app.providers.compatible import CompatibleProvider
from app.providers.demo import DemoProvider
from app.providers.openai import BASE_URL, OpenAIProvider
from app.providers.openrouter import OpenRouterProvider
from app.providers.resilience import Switchboard


class ProviderRegistry:
    """All providers that the settings have what it takes for, made once and shared by all threads.

    AI_MODEL belongs to the default provider; another one, chosen by name, answers with its own default model.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        """Raises SettingsError for a key or a base URL that cannot be used."""
        self._settings = settings
        chosen = default_name(settings)
        if chosen not in served_names(settings):
            raise SettingsError(f"AI_PROVIDER: {chosen} lacks its key or base URL; set it or unset AI_PROVIDER")
        self._providers: dict[str, Provider] = {
            name: _build(name, settings, settings.model if name == chosen else None) for name in served_names(settings)
        }
        self.default = self._providers[chosen]
        for name in settings.fallback:
            if name not in self._providers:
                raise SettingsError(f"AI_FALLBACK: this server has no {name}; it has: {', '.join(self.names)}")
        self._switchboard = Switchboard(self._providers, settings)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `get` takes, the default first."""
        return (self.default.name, *sorted(name for name in self._providers if name != self.default.name))

    def get(self, name: str | None) -> Provider:
        """The provider of this name, or the default for None; raises InvalidInput naming those there are."""
        if name is None:
            return self.default
        if name not in self._providers:
            complaint = f"This server has no such provider; it has: {', '.join(self.names)}."
            raise InvalidInput(complaint, fields={"provider": [complaint]})
        return self._providers[name]

    def stream(
        self, name: str | None, request: ChatRequest, *, replaceable: bool = False
    ) -> AbstractContextManager[tuple[Provider, Iterator[StreamEvent]]]:
        """The provider that answers and its answer, after retries, and from the fallback if `replaceable`.

        Raises InvalidInput as `get` does, and ProviderError when entered or iterated; see `Provider.stream`.
        """
        return self._switchboard.stream(self.get(name).name, request, replaceable=replaceable)


def default_name(settings: ProviderSettings) -> ProviderName:
    """The provider that is named, else the one whose key or URL is set, else the demo."""
    if settings.name:
        return settings.name
    if settings.openai_base_url:
        return "compatible"
    if settings.openai_api_key:
        return "openai"
    return "openrouter" if settings.openrouter_api_key else "demo"


def served_names(settings: ProviderSettings) -> list[ProviderName]:
    """Every provider that has its key or URL.

    With OPENAI_BASE_URL set the key belongs to that server: `openai` is served only if it is named, and goes there.
    """
    names: list[ProviderName] = ["demo"]
    if settings.openai_api_key and (settings.name == "openai" or not settings.openai_base_url):
        names.append("openai")
    if settings.openai_base_url:
        names.append("compatible")
    if settings.openrouter_api_key:
        names.append("openrouter")
    return names


def lacking(settings: ProviderSettings, name: ProviderName) -> str | None:
    """What keeps a provider from being served, as the setting to mend; None if nothing does."""
    if name in served_names(settings):
        return None
    if name == "openai" and settings.openai_base_url:
        return "OPENAI_API_KEY, and no OPENAI_BASE_URL, which takes that key for `compatible`"
    return {"openai": "OPENAI_API_KEY", "openrouter": "OPENROUTER_API_KEY", "compatible": "OPENAI_BASE_URL"}[name]


def _build(name: ProviderName, settings: ProviderSettings, model: str | None) -> Provider:
    if name == "demo":
        return DemoProvider(model=model)
    timeouts = Timeouts(
        connect=settings.connect_timeout,
        first_token=settings.first_token_timeout,
        idle=settings.idle_timeout,
        total=settings.total_timeout,
    )
    if name == "openrouter":
        return OpenRouterProvider(
            base_url=_base_url("OPENROUTER_BASE_URL", settings.openrouter_base_url),
            api_key=_key("OPENROUTER_API_KEY", settings.openrouter_api_key),
            model=model,
            timeouts=timeouts,
        )
    kind = OpenAIProvider if name == "openai" else CompatibleProvider
    return kind(
        base_url=_base_url("OPENAI_BASE_URL", settings.openai_base_url or BASE_URL),
        api_key=_key("OPENAI_API_KEY", settings.openai_api_key),
        model=model,
        timeouts=timeouts,
    )


def _key(variable: str, secret: SecretStr | None) -> str | None:
    key = secret.get_secret_value() if secret else None
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingsError(f"{variable}: contains a space or a character that no key has; copy it again")
    return key


def _base_url(variable: str, url: str) -> str:
    """Errors and logs may show a base URL, so it must hold no secret; and the path is appended to it."""
    try:
        parts = urlsplit(url)
        usable = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise SettingsError(f"{variable}: is no URL; it must look like https://host/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SettingsError(
            f"{variable}: must have no user name, password, query or fragment; a key goes into its own setting"
        )
    return url
