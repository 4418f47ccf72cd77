"""`make monitoring`: its preconditions and its configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from app.config import Settings, load_settings
from app.errors import SettingsError
from ops.embedded import ports
from ops.up import monitoring
from ops.up.address import Address


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load_settings(env_file=None)
    return replace(settings, server=settings.server.model_copy(update={"home": tmp_path}))


@contextmanager
def server(home: Path) -> Iterator[int]:
    """Bind a port, recorded in `home` as `make up` does; yield the port."""
    with (
        HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listener,
        Address("127.0.0.1", listener.server_port).recorded(home),
    ):
        yield listener.server_port


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put programs with the names of both on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("prometheus", "alertmanager"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))


def prepare(settings: Settings) -> dict[str, list[str]]:
    return monitoring.prepare(settings, prometheus_port=ports.choose_port(0), alertmanager_port=ports.choose_port(0))


def test_without_a_running_server_it_says_so(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"no `make up` runs with PARLEY_HOME=.*: start it first"):
        prepare(settings)


def test_missing_program_is_named(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with server(tmp_path), pytest.raises(SettingsError, match="prometheus is missing: install Debian's packages"):
        prepare(settings)


@pytest.mark.usefixtures("programs")
def test_scrapes_the_running_server_with_its_token(settings: Settings, tmp_path: Path) -> None:
    server_settings = settings.server.model_copy(update={"ops_token": SecretStr("a-token-of-operators")})
    with server(tmp_path) as port:
        prepare(replace(settings, server=server_settings))
    folder = tmp_path / "monitoring"
    [scrape] = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    credentials = Path(scrape["authorization"]["credentials_file"])
    assert credentials.read_text() == "a-token-of-operators"
    assert credentials.stat().st_mode & 0o777 == 0o600
    assert (folder / "rules.yml").is_file()


@pytest.mark.usefixtures("programs")
def test_without_a_token_none_is_sent(settings: Settings, tmp_path: Path) -> None:
    with server(tmp_path):
        commands = prepare(settings)
    [scrape] = yaml.safe_load((tmp_path / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    assert "authorization" not in scrape
    assert set(commands) == {"prometheus", "alertmanager"}
