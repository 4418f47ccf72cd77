"""Checks of settings, secrets and providers."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import Settings
from ops.checks.context import CheckContext
from ops.checks.findings import Finding
from ops.doctor.checks import encryption, secrets
from ops.doctor.checks.secrets import entropy_bits, weakness
from ops.doctor.checks.settings import contradictions
from ops.embedded import URL_WHEN_STARTED
from ops.levels import Level
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.ops.doctor.conftest import DoctorInstall

KEY = SecretStr("2b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfe")
OTHER = SecretStr("8aed2a6abf7158809cf4f3c2b7e15162762e7160f38b4da50cfe6a784d904519")


@pytest.fixture
def url(shared_url: str) -> str:
    """Share the database, which these tests do not change."""
    return shared_url


def broken(settings: Settings, **changes: dict[str, Any]) -> list[Finding]:
    groups = {name: getattr(settings, name).model_copy(update=update) for name, update in changes.items()}
    return list(contradictions(CheckContext(replace(settings, **groups))))


def test_defaults_have_no_contradictions(settings: Settings) -> None:
    assert broken(settings) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"server": {"host": "0.0.0.0"}}, "OPS_TOKEN is unset"),
        ({"server": {"cors_origins": ("*",)}}, "any web page in a browser"),
        ({"chat": {"stale_seconds": 5}}, "CHAT_STALE_SECONDS"),
        ({"database": {"pool_timeout": 30.0}}, "DB_POOL_TIMEOUT"),
        ({"database": {"lock_timeout_ms": 15_000}}, "DB_LOCK_TIMEOUT_MS"),
        ({"provider": {"total_timeout": 60.0}}, "AI_FIRST_TOKEN_TIMEOUT cannot take effect"),
        ({"auth": {"access_token_minutes": 1440, "refresh_token_days": 1}}, "tokens are never refreshed"),
        ({"auth": {"jwt_secret_key": KEY, "jwt_previous_keys": (OTHER, KEY)}}, "the key was not rotated"),
        ({"chat": {"history_chars": 500}}, "CHAT_HISTORY_CHARS"),
        ({"jobs": {"runs_keep_days": 7}}, "JOB_RUNS_KEEP_DAYS"),
        ({"provider": {"name": "demo", "fallback": ("demo",)}}, "is the default provider itself"),
        ({"provider": {"name": "openai", "openai_api_key": KEY, "fallback": ("demo",)}}, "get demo answers"),
        ({"provider": {"name": "demo", "openai_api_key": KEY}}, "the key is not used"),
        ({"provider": {"openai_api_key": KEY, "openai_base_url": "http://api.example.com/v1"}}, "in plain text"),
        ({"provider": {"openai_api_key": KEY, "openai_base_url": "http://8.8.8.8/v1"}}, "in plain text"),
        ({"limits": {"user_per_minute": 1200, "key_per_minute": 5000}}, "RATE_LIMIT_KEY is above"),
        ({"limits": {"login_failures": 10, "login_failures_account": 5}}, "a single address"),
        ({"limits": {"login_failures": 0, "login_failures_account": 100}}, "a single address"),
        ({"jobs": {"broker_url": SecretStr("amqp://u:p@queue//")}}, "counts separately"),
        ({"backups": {"s3_endpoint": "http://s3.example.com"}}, "backups are sent in plain text"),
        ({"database": {"url": URL_WHEN_STARTED, "direct_url": "postgresql+psycopg2://a@b/c"}}, "different databases"),
    ],
)  # fmt: skip
def test_contradicting_settings_are_found(settings: Settings, changes: dict[str, dict[str, Any]], named: str) -> None:
    found = [finding for finding in broken(settings, **changes) if named in finding.message]
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
def test_compatible_settings_have_no_findings(settings: Settings, changes: dict[str, dict[str, Any]]) -> None:
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
def test_weak_keys(key: str) -> None:
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
def test_strong_keys(key: str) -> None:
    assert weakness(key) is None
    assert entropy_bits(key) > secrets.MIN_BITS


def test_weak_and_shared_secrets_are_reported_without_their_values(make_install: Callable[..., DoctorInstall]) -> None:
    install = make_install(auth={"jwt_secret_key": KEY}, server={"ops_token": KEY})
    (finding,) = install.run_check("settings.secrets").findings
    assert finding.level is Level.WARNING
    assert "JWT_SECRET_KEY and OPS_TOKEN are the same" in finding.message
    weak = make_install(auth={"jwt_secret_key": SecretStr("hunter2-" * 5)})
    result = weak.run_check("settings.secrets")
    assert result.level is Level.CRITICAL
    assert "hunter2" not in repr(result)
    assert make_install(auth={"jwt_secret_key": KEY}).run_check("settings.secrets").level is Level.OK


def test_world_readable_secrets_file_is_found(
    make_install: Callable[..., DoctorInstall], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install = make_install(auth={"jwt_secret_key": KEY})
    file = tmp_path / ".env"
    file.touch(mode=0o600)
    assert install.run_check("settings.secrets").level is Level.OK
    file.chmod(0o644)
    (finding,) = install.run_check("settings.secrets").findings
    assert finding.remedy == f"chmod 600 {file}"
    subprocess.run(str(finding.remedy).split(), check=True)
    assert install.run_check("settings.secrets").level is Level.OK
    key_file = tmp_path / "key.txt"
    key_file.touch(mode=0o644)
    key_file.chmod(0o644)
    with_key = make_install(auth={"jwt_secret_key": KEY}, backups={"age_identity_file": key_file})
    (finding,) = with_key.run_check("settings.secrets").findings
    assert finding.remedy == f"chmod 600 {key_file}"


@pytest.mark.parametrize(
    ("broker", "found"),
    [
        ("redis://redis:6379/0", True),
        ("amqp://guest:guest@queue:5672//", True),
        ("redis://:f3c2b7e15162@redis:6379/0", False),
        ("redis://127.0.0.1:6379/0", False),
    ],
)
def test_broker_without_password_is_found(make_install: Callable[..., DoctorInstall], broker: str, found: bool) -> None:
    install = make_install(auth={"jwt_secret_key": KEY}, jobs={"broker_url": SecretStr(broker)})
    assert [finding.message.startswith("The broker") for finding in install.run_check("settings.secrets").findings] == [
        True
    ] * found


@pytest.mark.parametrize(("address", "level"), [("10.0.0.1", Level.WARNING), ("8.8.8.8", Level.CRITICAL)])
def test_common_database_password_is_found(
    make_install: Callable[..., DoctorInstall],
    install: DoctorInstall,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    address: str,
    level: Level,
) -> None:
    """The role's password is its name."""
    monkeypatch.setattr(secrets, "peer_address", lambda _: address)
    url = install.url.replace(install.url.partition("//")[2].partition("@")[0], f"{role}:{role}")
    weak = make_install(auth={"jwt_secret_key": KEY}, database={"url": url})
    (finding,) = weak.run_check("settings.secrets").findings
    assert finding.level is level
    assert encryption.is_public(address) is (level is Level.CRITICAL)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def provided(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"provider": {"name": "compatible", "openai_base_url": upstream.base_url, "openai_api_key": KEY, **more}}


def test_provider_check_is_free_of_charge(make_install: Callable[..., DoctorInstall], upstream: Upstream) -> None:
    install = make_install(**provided(upstream))
    assert install.run_check("provider.reachable").level is Level.OK
    assert upstream.requests == []
    assert [seen.path for seen in upstream.listings] == ["/v1/models"]
    assert upstream.listings[0].headers["authorization"] == f"Bearer {KEY.get_secret_value()}"


def test_provider_without_model_list_is_reachable(
    make_install: Callable[..., DoctorInstall], upstream: Upstream
) -> None:
    upstream.models = scripts.status(404, {"error": {"message": "no such page"}})
    assert make_install(**provided(upstream)).run_check("provider.reachable").level is Level.OK


@pytest.mark.parametrize(
    ("status", "level"), [(401, Level.CRITICAL), (403, Level.CRITICAL), (500, Level.CRITICAL), (429, Level.WARNING)]
)
def test_refusing_provider_is_found(
    make_install: Callable[..., DoctorInstall], upstream: Upstream, status: int, level: Level
) -> None:
    upstream.models = scripts.status(status, {"error": {"message": f"no, {KEY.get_secret_value()}"}})
    result = make_install(**provided(upstream)).run_check("provider.reachable")
    assert result.level is level
    assert KEY.get_secret_value() not in repr(result)


def test_unreachable_provider_with_fallback_is_a_warning(
    make_install: Callable[..., DoctorInstall], upstream: Upstream
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # a free port once it is closed
        away = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    alone = {"name": "compatible", "openai_base_url": away}
    (finding,) = make_install(provider=alone).run_check("provider.reachable").findings
    assert finding.level is Level.CRITICAL
    assert "refused the connection" in finding.message
    helped = {**alone, "fallback": ("openrouter",), "openrouter_api_key": KEY, "openrouter_base_url": upstream.base_url}
    (finding,) = make_install(provider=helped).run_check("provider.reachable").findings
    assert finding.level is Level.WARNING
    assert finding.evidence["fallback_reachable"] is True


def test_unresponsive_provider_times_out(
    make_install: Callable[..., DoctorInstall], upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.doctor.checks.provider.SECONDS", 0.2)
    upstream.models = scripts.hang()
    (finding,) = make_install(**provided(upstream)).run_check("provider.reachable").findings
    assert finding.level is Level.CRITICAL
    assert "within 0.2 seconds" in finding.message


def test_demo_provider_is_reachable(install: DoctorInstall) -> None:
    assert install.run_check("provider.reachable").level is Level.OK
