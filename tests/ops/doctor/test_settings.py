"""Settings that do not go together, and secrets that are none; a provider that is not to be had."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import Settings
from ops.checks import encryption, secrets
from ops.checks.probe import Probe
from ops.checks.secrets import bits, weakness
from ops.checks.settings import contradictions
from ops.embedded import URL_WHEN_STARTED
from ops.findings import Finding
from ops.levels import Level
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.ops.doctor.conftest import Ward

KEY = SecretStr("2b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfe")
OTHER = SecretStr("8aed2a6abf7158809cf4f3c2b7e15162762e7160f38b4da50cfe6a784d904519")


@pytest.fixture
def url(shared_url: str) -> str:
    """Nothing here changes the database for good."""
    return shared_url


def broken(settings: Settings, **changes: dict[str, Any]) -> list[Finding]:
    groups = {name: getattr(settings, name).model_copy(update=update) for name, update in changes.items()}
    return list(contradictions(Probe(replace(settings, **groups))))


def test_the_defaults_contradict_nothing(settings: Settings) -> None:
    assert broken(settings) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"server": {"host": "0.0.0.0"}}, "OPS_TOKEN is unset"),
        ({"server": {"cors_origins": ("*",)}}, "any page in a browser"),
        ({"chat": {"stale_seconds": 5}}, "CHAT_STALE_SECONDS"),
        ({"database": {"pool_timeout": 30.0}}, "DB_POOL_TIMEOUT"),
        ({"database": {"lock_timeout_ms": 15_000}}, "DB_LOCK_TIMEOUT_MS"),
        ({"provider": {"total_timeout": 60.0}}, "AI_FIRST_TOKEN_TIMEOUT can never pass"),
        ({"auth": {"access_token_minutes": 1440, "refresh_token_days": 1}}, "no token is ever refreshed"),
        ({"auth": {"jwt_secret_key": KEY, "jwt_previous_keys": (OTHER, KEY)}}, "the key was not changed"),
        ({"chat": {"history_chars": 500}}, "CHAT_HISTORY_CHARS"),
        ({"jobs": {"runs_keep_days": 7}}, "JOB_RUNS_KEEP_DAYS"),
        ({"provider": {"name": "demo", "fallback": ("demo",)}}, "stand in for"),
        ({"provider": {"name": "openai", "openai_api_key": KEY, "fallback": ("demo",)}}, "made-up answers"),
        ({"provider": {"name": "demo", "openai_api_key": KEY}}, "nobody uses the key"),
        ({"provider": {"openai_api_key": KEY, "openai_base_url": "http://api.example.com/v1"}}, "in the clear"),
        ({"provider": {"openai_api_key": KEY, "openai_base_url": "http://8.8.8.8/v1"}}, "in the clear"),
        ({"limits": {"user_per_minute": 1200, "key_per_minute": 5000}}, "RATE_LIMIT_KEY is above"),
        ({"limits": {"login_failures": 10, "login_failures_account": 5}}, "one address alone"),
        ({"limits": {"login_failures": 0, "login_failures_account": 100}}, "one address alone"),
        ({"jobs": {"broker_url": SecretStr("amqp://u:p@queue//")}}, "counts requests for itself"),
        ({"backups": {"s3_endpoint": "http://s3.example.com"}}, "all that people wrote"),
        ({"database": {"url": URL_WHEN_STARTED, "direct_url": "postgresql+psycopg2://a@b/c"}}, "another database"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(settings: Settings, changes: dict[str, dict[str, Any]], named: str) -> None:
    found = [finding for finding in broken(settings, **changes) if named in finding.what]
    assert len(found) == 1
    assert found[0].remedy
    assert KEY.get_secret_value() not in repr(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"server": {"host": "0.0.0.0", "ops_token": KEY, "cors_origins": ("*",)}},
        {"server": {"host": "::1"}},
        {"limits": {"user_per_minute": 0, "key_per_minute": 0, "login_failures": 0, "login_failures_account": 0}},
        {"jobs": {"broker_url": SecretStr("amqp://u:p@queue//")}, "server": {"workers": 1}},
        {"jobs": {"broker_url": SecretStr("rediss://:p@queue:6379/0")}},
        {"backups": {"s3_endpoint": "http://minio:9000"}},
        {"provider": {"openai_api_key": KEY, "openai_base_url": "http://192.168.1.5:11434/v1"}},
        {"provider": {"openai_api_key": KEY, "openai_base_url": "http://ollama:11434/v1"}},
        {"provider": {"openai_api_key": KEY, "openai_base_url": "https://api.example.com/v1"}},
        {"provider": {"name": "openai", "openai_api_key": KEY, "fallback": ("openrouter",), "openrouter_api_key": KEY}},
        {"chat": {"history_messages": 0, "history_chars": 0}},
        {"auth": {"jwt_secret_key": KEY, "jwt_previous_keys": (OTHER,)}},
    ],
)
def test_what_does_go_together(settings: Settings, changes: dict[str, dict[str, Any]]) -> None:
    assert broken(settings, **changes) == []


@pytest.mark.parametrize(
    "key",
    [
        "a" * 64,
        "ab" * 32,
        "abcdefgh" * 8,
        "change-me-please-to-something-long-and-random",
        "this-is-a-very-secret-key-for-production-use",
        "0123456789abcdefghijklmnopqrstuvwxyz!?ABCDEF",
        "11112222333344445555666677778888",
    ],
)
def test_keys_that_can_be_guessed(key: str) -> None:
    assert weakness(key)


@pytest.mark.parametrize(
    "key",
    [
        KEY.get_secret_value(),
        "9f86d081884c7d659a2feaa0c55ad015",  # 32 hex digits
        "wJalrXUtnFEMI7K7MDENGbPxRfiCYzLm3oTqVd9s",
        "correct horse battery staple and eleven more purple lamps",
    ],
)
def test_keys_that_cannot(key: str) -> None:
    assert weakness(key) is None
    assert bits(key) > secrets.ENOUGH_BITS


def test_weak_and_shared_secrets_are_told_and_not_shown(admit: Callable[..., Ward]) -> None:
    ward = admit(auth={"jwt_secret_key": KEY}, server={"ops_token": KEY})
    (finding,) = ward.ask("settings.secrets").findings
    assert finding.level is Level.WARNING
    assert "JWT_SECRET_KEY and OPS_TOKEN are the same" in finding.what
    weak = admit(auth={"jwt_secret_key": SecretStr("hunter2-" * 5)})
    answer = weak.ask("settings.secrets")
    assert answer.level is Level.CRITICAL
    assert "hunter2" not in repr(answer)
    assert admit(auth={"jwt_secret_key": KEY}).ask("settings.secrets").level is Level.OK


def test_a_file_of_secrets_that_everybody_can_read(
    admit: Callable[..., Ward], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ward = admit(auth={"jwt_secret_key": KEY})
    file = tmp_path / ".env"
    file.touch(mode=0o600)
    assert ward.ask("settings.secrets").level is Level.OK
    file.chmod(0o644)
    (finding,) = ward.ask("settings.secrets").findings
    assert finding.remedy == f"chmod 600 {file}"


@pytest.mark.parametrize(
    ("broker", "told"),
    [
        ("redis://redis:6379/0", True),
        ("amqp://guest:guest@queue:5672//", True),
        ("redis://:f3c2b7e15162@redis:6379/0", False),
        ("redis://127.0.0.1:6379/0", False),
    ],
)
def test_a_broker_without_a_password(admit: Callable[..., Ward], broker: str, told: bool) -> None:
    ward = admit(auth={"jwt_secret_key": KEY}, jobs={"broker_url": SecretStr(broker)})
    assert [finding.what.startswith("The broker") for finding in ward.ask("settings.secrets").findings] == [True] * told


@pytest.mark.parametrize(("address", "level"), [("10.0.0.1", Level.WARNING), ("8.8.8.8", Level.CRITICAL)])
def test_an_account_with_everybodys_password(
    admit: Callable[..., Ward], ward: Ward, monkeypatch: pytest.MonkeyPatch, role: str, address: str, level: Level
) -> None:
    """The role's password is its name."""
    monkeypatch.setattr(secrets, "peer_address", lambda _: address)
    url = ward.url.replace(ward.url.partition("//")[2].partition("@")[0], f"{role}:{role}")
    weak = admit(auth={"jwt_secret_key": KEY}, database={"url": url})
    (finding,) = weak.ask("settings.secrets").findings
    assert finding.level is level
    assert encryption.is_public(address) is (level is Level.CRITICAL)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def provided(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"provider": {"name": "compatible", "openai_base_url": upstream.base_url, "openai_api_key": KEY, **more}}


def test_a_provider_is_asked_for_what_costs_nothing(admit: Callable[..., Ward], upstream: Upstream) -> None:
    ward = admit(**provided(upstream))
    assert ward.ask("provider.reachable").level is Level.OK
    assert upstream.requests == []
    assert [seen.path for seen in upstream.listings] == ["/v1/models"]
    assert upstream.listings[0].headers["authorization"] == f"Bearer {KEY.get_secret_value()}"


def test_a_provider_without_a_list_is_there_all_the_same(admit: Callable[..., Ward], upstream: Upstream) -> None:
    upstream.models = scripts.status(404, {"error": {"message": "no such page"}})
    assert admit(**provided(upstream)).ask("provider.reachable").level is Level.OK


@pytest.mark.parametrize(
    ("status", "level"), [(401, Level.CRITICAL), (403, Level.CRITICAL), (500, Level.CRITICAL), (429, Level.WARNING)]
)
def test_a_provider_that_refuses(admit: Callable[..., Ward], upstream: Upstream, status: int, level: Level) -> None:
    upstream.models = scripts.status(status, {"error": {"message": f"no, {KEY.get_secret_value()}"}})
    answer = admit(**provided(upstream)).ask("provider.reachable")
    assert answer.level is level
    assert KEY.get_secret_value() not in repr(answer)


def test_a_provider_that_is_away_and_one_that_stands_in(admit: Callable[..., Ward], upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # nobody listens there once it is closed
        away = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    alone = {"name": "compatible", "openai_base_url": away}
    (finding,) = admit(provider=alone).ask("provider.reachable").findings
    assert finding.level is Level.CRITICAL
    assert "refused the connection" in finding.what
    helped = {**alone, "fallback": ("openrouter",), "openrouter_api_key": KEY, "openrouter_base_url": upstream.base_url}
    (finding,) = admit(provider=helped).ask("provider.reachable").findings
    assert finding.level is Level.WARNING
    assert finding.evidence["a_fallback_answers"] is True


def test_a_provider_that_never_answers_is_given_up(
    admit: Callable[..., Ward], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.checks.provider.SECONDS", 0.2)
    upstream.models = scripts.hang()
    (finding,) = admit(**provided(upstream)).ask("provider.reachable").findings
    assert finding.level is Level.CRITICAL
    assert "within 0.2 seconds" in finding.what


def test_the_demo_is_always_there(ward: Ward) -> None:
    assert ward.ask("provider.reachable").level is Level.OK
