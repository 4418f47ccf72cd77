"""The providers that the settings configure, and their keys."""

from typing import Any

import pytest

from app.config import Provider as ProviderSettings
from app.config.values import ProviderName
from app.errors import InvalidInput, SettingsError
from app.outbound.timeouts import Timeouts
from app.providers.chat_completions import ChatCompletions
from app.providers.configured import missing_setting
from app.providers.registry import ProviderRegistry

OPENAI = {"OPENAI_API_KEY": "sk-openai"}
URL = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
ROUTER = {"OPENROUTER_API_KEY": "sk-router"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AI_PROVIDER", "AI_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def settings(**variables: Any) -> ProviderSettings:
    return ProviderSettings(**variables)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, ("demo",)),
        (OPENAI, ("openai", "demo")),
        (URL, ("compatible", "demo")),
        (OPENAI | URL, ("compatible", "demo")),
        (ROUTER, ("openrouter", "demo")),
        (OPENAI | ROUTER, ("openai", "demo", "openrouter")),
        (OPENAI | URL | ROUTER, ("compatible", "demo", "openrouter")),
        ({"AI_PROVIDER": "demo"} | OPENAI, ("demo", "openai")),
        ({"AI_PROVIDER": "openai"} | OPENAI | URL, ("openai", "compatible", "demo")),
        ({"AI_PROVIDER": "openrouter"} | OPENAI | ROUTER, ("openrouter", "demo", "openai")),
    ],
)
def test_settings_determine_served_providers(variables: dict[str, str], names: tuple[str, ...]) -> None:
    registry = ProviderRegistry(settings(**variables))
    assert registry.names == names
    assert registry.default.name == names[0]
    assert [registry.get(name).name for name in names] == list(names)
    assert registry.get(None) is registry.default


def test_unknown_provider_is_invalid_input() -> None:
    registry = ProviderRegistry(settings(**ROUTER))
    for name in ("openai", "", "nonsense"):
        with pytest.raises(InvalidInput) as caught:
            registry.get(name)
        assert "openrouter, demo" in caught.value.detail
        assert "provider" in (caught.value.fields or {})


@pytest.mark.parametrize("name", ["openai", "openrouter", "compatible"])
def test_named_provider_needs_key_or_url(name: str) -> None:
    with pytest.raises(SettingsError, match=f"AI_PROVIDER: {name}"):
        ProviderRegistry(settings(AI_PROVIDER=name))


def test_model_setting_belongs_to_default_provider() -> None:
    registry = ProviderRegistry(settings(AI_MODEL="my-model", **OPENAI, **ROUTER))
    assert registry.default.default_model == "my-model"
    assert registry.get("openrouter").default_model == "openrouter/auto"
    assert registry.get("demo").default_model == "demo"
    assert ProviderRegistry(settings(AI_MODEL="my-demo")).default.default_model == "my-demo"


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, {"openai": "OPENAI_API_KEY", "openrouter": "OPENROUTER_API_KEY", "compatible": "OPENAI_BASE_URL"}),
        (OPENAI | ROUTER, {"compatible": "OPENAI_BASE_URL"}),
        (OPENAI | URL | ROUTER, {"openai": "without OPENAI_BASE_URL"}),
        ({"AI_PROVIDER": "openai"} | OPENAI | URL | ROUTER, {}),
    ],
)
def test_missing_setting_is_named(variables: dict[str, str], missing: dict[str, str]) -> None:
    names: tuple[ProviderName, ...] = ("demo", "openai", "openrouter", "compatible")
    actual = {name: text for name in names if (text := missing_setting(settings(**variables), name))}
    assert set(actual) == set(missing)
    assert all(missing[name] in text for name, text in actual.items())


def test_timeouts_come_from_settings() -> None:
    provider = ProviderRegistry(
        settings(AI_CONNECT_TIMEOUT=1, AI_FIRST_TOKEN_TIMEOUT=2, AI_IDLE_TIMEOUT=3, AI_TOTAL_TIMEOUT=4, **ROUTER)
    ).default
    assert isinstance(provider, ChatCompletions)
    assert provider.timeouts == Timeouts(connect=1, first_token=2, idle=3, total=4)


@pytest.mark.parametrize("key", ["sk with space", "sk-line\nbreak", "ключ-ключ", "sk-\x7f"])
def test_invalid_key_is_rejected(key: str) -> None:
    with pytest.raises(SettingsError, match="OPENAI_API_KEY") as caught:
        ProviderRegistry(settings(OPENAI_API_KEY=key))
    assert key not in repr(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://user:hunter2@host/v1",
        "https://host/v1?api-key=hunter2",
        "https://host/v1#hunter2",
        "http://host:99999999/v1",
        "http://[::1/v1",
        f"http://{'ü' * 70}/v1",
        "http://ho st/v1",
        "http://host/v1\r\nX: y",
    ],
)
def test_invalid_base_url_is_rejected(url: str) -> None:
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL") as caught:
        ProviderRegistry(settings(OPENAI_BASE_URL=url))
    assert "hunter2" not in repr(caught.value)


def test_repr_shows_no_key() -> None:
    registry = ProviderRegistry(settings(**OPENAI, **ROUTER))
    shown = repr(vars(registry)) + repr(registry.default) + str(registry.default)
    assert "sk-openai" not in shown
    assert "sk-router" not in shown
