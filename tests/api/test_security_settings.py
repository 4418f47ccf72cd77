"""Settings of security: invalid values are one line each, without secrets."""

from pathlib import Path

import pytest

from app.config import load_settings
from app.errors import SettingsError

KEY = "0123456789abcdef0123456789abcdef"


def load(monkeypatch: pytest.MonkeyPatch, **variables: str):  # type: ignore[no-untyped-def]  # Settings
    for name in ("CORS_ORIGINS", "TRUSTED_PROXIES", "JWT_PREVIOUS_KEYS", "MAX_BODY_BYTES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings(env_file=None)


def test_no_proxy_or_origin_is_trusted_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    assert settings.server.cors_origins == ()
    assert settings.server.trusted_proxies == 0
    assert settings.auth.jwt_previous_keys == ()
    assert load(monkeypatch, CORS_ORIGINS="", JWT_PREVIOUS_KEYS="", TRUSTED_PROXIES="") == settings


@pytest.mark.parametrize(
    "origins",
    [
        ["https://chat.example.org"],
        ["http://localhost:5173", "https://chat.example.org:8443"],
        ["http://127.0.0.1:3000", "http://[::1]:3000"],
        ["capacitor://localhost"],
        ["https://xn--bcher-kva.example"],
        ["*"],
    ],
)
def test_valid_origins_are_accepted(monkeypatch: pytest.MonkeyPatch, origins: list[str]) -> None:
    for between in (",", " , "):
        assert load(monkeypatch, CORS_ORIGINS=between.join(origins)).server.cors_origins == tuple(origins)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CORS_ORIGINS", "chat.example.org", "CORS_ORIGINS.0: must look like https://host"),
        ("CORS_ORIGINS", "https://a.example,https://b.example/", "CORS_ORIGINS.1: must look like"),
        ("CORS_ORIGINS", "https://a.example/path", "must look like"),
        ("CORS_ORIGINS", "https://Chat.example.org", "must look like"),
        ("CORS_ORIGINS", "https://*.example.org", "must look like"),
        ("CORS_ORIGINS", "https://user@example.org", "must look like"),
        ("CORS_ORIGINS", "https://bücher.example", "must look like"),
        ("CORS_ORIGINS", "https://a.example;https://b.example", "must look like"),
        ("CORS_ORIGINS", "https://a.example https://b.example", "must look like"),
        ("CORS_ORIGINS", '["https://a.example"]', "must look like"),
        ("CORS_ORIGINS", "https://a.example,", "must look like"),
        ("CORS_ORIGINS", "null", "must look like"),
        ("CORS_ORIGINS", "true", "must look like"),
        ("CORS_ORIGINS", "https://a.example:443", "must omit the default port"),
        ("CORS_ORIGINS", "http://a.example:80", "must omit the default port"),
        ("CORS_ORIGINS", "*,https://a.example", "CORS_ORIGINS: * allows every origin"),
        ("TRUSTED_PROXIES", "-1", "TRUSTED_PROXIES: "),
        ("TRUSTED_PROXIES", "11", "TRUSTED_PROXIES: "),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "TRUSTED_PROXIES: "),
        ("TRUSTED_PROXIES", "true", "TRUSTED_PROXIES: "),
        ("JWT_PREVIOUS_KEYS", KEY[:-1], "JWT_PREVIOUS_KEYS.0: must have at least 32 characters"),
        ("JWT_PREVIOUS_KEYS", f"{KEY},{KEY[:5]}", "JWT_PREVIOUS_KEYS.1: must have at least 32"),
        ("JWT_PREVIOUS_KEYS", f"{KEY},", "JWT_PREVIOUS_KEYS.1: "),
        ("MAX_BODY_BYTES", "1", "MAX_BODY_BYTES: "),
    ],
)
def test_invalid_setting_is_one_line_with_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        load(monkeypatch, **{variable: value})
    assert says in raised.value.detail
    assert raised.value.detail.startswith(variable)
    assert "\n" not in raised.value.detail
    assert KEY[:5] not in raised.value.detail


def test_each_invalid_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as raised:
        load(monkeypatch, CORS_ORIGINS="x,y", TRUSTED_PROXIES="z")
    assert [line.split(":")[0] for line in raised.value.detail.splitlines()] == [
        "CORS_ORIGINS.0",
        "CORS_ORIGINS.1",
        "TRUSTED_PROXIES",
    ]


def test_previous_keys_are_in_no_repr_or_dump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load(monkeypatch, JWT_PREVIOUS_KEYS=f"{KEY}, {KEY}x")
    assert [key.get_secret_value() for key in settings.auth.jwt_previous_keys] == [KEY, f"{KEY}x"]
    assert KEY not in repr(settings)
    assert KEY not in str(settings.auth.model_dump())
