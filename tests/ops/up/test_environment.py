"""The environment of the processes of `make up`."""

from contextlib import ExitStack

import pytest

from app.config import load_settings
from ops.up.environment import lease_servers, prepare_environment


@pytest.mark.parametrize(("value", "expected"), [(None, "30"), ("", "30"), ("0", "0"), ("200", "200")])
def test_demo_pause_is_readable_unless_set(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/unused")
    monkeypatch.setenv("JWT_SECRET_KEY", "x" * 32)
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://localhost/0")
    monkeypatch.delenv("DEMO_PAUSE_MS", raising=False)
    if value is not None:
        monkeypatch.setenv("DEMO_PAUSE_MS", value)
    settings = load_settings(env_file=None)
    with ExitStack() as servers:
        environment = prepare_environment(settings, lease_servers(settings, servers))
    assert environment["DEMO_PAUSE_MS"] == expected
