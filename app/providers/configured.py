"""The providers that the settings configure, without their clients: a command that lists or chooses needs no more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.config import Provider as ProviderSettings
from app.config.values import ProviderName
from app.errors import InvalidInput, SettingsError

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_MODELS: Mapping[ProviderName, str] = MappingProxyType(
    {
        "demo": "demo",
        "openai": "gpt-5.4-mini",
        "openrouter": "openrouter/auto",
        "compatible": "default",  # servers of a single model accept any name
    }
)


@dataclass(frozen=True, slots=True)
class ConfiguredProvider:
    """A provider with its default model, and the address and key of its server; the demo has none."""

    name: ProviderName
    default_model: str
    base_url: str = ""
    key: str | None = field(default=None, repr=False)


class ConfiguredProviders:
    """All configured providers by name.

    AI_MODEL belongs to the default provider; each other one has its own default model.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        """Check the settings. Raises `SettingsError` for an invalid key or base URL, and for a name without either."""
        chosen = default_name(settings)
        if chosen not in served_names(settings):
            raise SettingsError(f"AI_PROVIDER: {chosen} has no key or base URL; set it or unset AI_PROVIDER")
        self._by_name: dict[str, ConfiguredProvider] = {
            name: _configured(name, settings, settings.model if name == chosen else None)
            for name in served_names(settings)
        }
        self.default = self._by_name[chosen]
        for name in settings.fallback:
            if name not in self._by_name:
                raise SettingsError(f"AI_FALLBACK: this server has no {name}; it has: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[ProviderName, ...]:
        """The names that `get` accepts, the default first."""
        others = (provider.name for provider in self._by_name.values() if provider is not self.default)
        return (self.default.name, *sorted(others))

    def get(self, name: str | None) -> ConfiguredProvider:
        """Return the provider of this name, or the default for None. Raises `InvalidInput` for an unknown one."""
        if name is None:
            return self.default
        if name not in self._by_name:
            complaint = f"This server has no such provider; it has: {', '.join(self.names)}."
            raise InvalidInput(complaint, fields={"provider": [complaint]})
        return self._by_name[name]


def default_name(settings: ProviderSettings) -> ProviderName:
    """Return the provider of AI_PROVIDER, else the one whose key or URL is set, else the demo."""
    if settings.name:
        return settings.name
    if settings.openai_base_url:
        return "compatible"
    if settings.openai_api_key:
        return "openai"
    return "openrouter" if settings.openrouter_api_key else "demo"


def served_names(settings: ProviderSettings) -> list[ProviderName]:
    """Return every provider that has its key or URL.

    With OPENAI_BASE_URL the key belongs to that server: `openai` is then served only if AI_PROVIDER names it.
    """
    names: list[ProviderName] = ["demo"]
    if settings.openai_api_key and (settings.name == "openai" or not settings.openai_base_url):
        names.append("openai")
    if settings.openai_base_url:
        names.append("compatible")
    if settings.openrouter_api_key:
        names.append("openrouter")
    return names


def missing_setting(settings: ProviderSettings, name: ProviderName) -> str | None:
    """Return the setting that a provider needs to be served, or None if it is served."""
    if name in served_names(settings):
        return None
    if name == "openai" and settings.openai_base_url:
        return "OPENAI_API_KEY without OPENAI_BASE_URL (which assigns the key to `compatible`)"
    return {"openai": "OPENAI_API_KEY", "openrouter": "OPENROUTER_API_KEY", "compatible": "OPENAI_BASE_URL"}[name]


def _configured(name: ProviderName, settings: ProviderSettings, model: str | None) -> ConfiguredProvider:
    model = model or DEFAULT_MODELS[name]
    if name == "demo":
        return ConfiguredProvider(name, model)
    if name == "openrouter":
        url = _base_url("OPENROUTER_BASE_URL", settings.openrouter_base_url)
        return ConfiguredProvider(name, model, url, _key("OPENROUTER_API_KEY", settings.openrouter_api_key))
    url = _base_url("OPENAI_BASE_URL", settings.openai_base_url or OPENAI_URL)
    return ConfiguredProvider(name, model, url, _key("OPENAI_API_KEY", settings.openai_api_key))


def _key(variable: str, secret: SecretStr | None) -> str | None:
    key = secret.get_secret_value() if secret else None
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingsError(f"{variable}: contains a space or a character that keys do not have; copy it again")
    return key


def _base_url(variable: str, url: str) -> str:
    """Check a base URL: errors and logs show it, so it must hold no secret, and paths are appended to it."""
    try:
        parts = urlsplit(url)
        usable = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise SettingsError(f"{variable}: is not a URL; it must look like https://host/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SettingsError(
            f"{variable}: must have no user name, password, query or fragment; a key has its own setting"
        )
    return url
