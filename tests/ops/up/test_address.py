"""The record of the running server's address, which `flask chat` reads."""

import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ops.cli.chat_session import _server_url
from ops.embedded import ports
from ops.up.address import RECORD, Address, running_url


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_url_of_running_server_is_read(tmp_path: Path, listener: socket.socket) -> None:
    address = Address("0.0.0.0", listener.getsockname()[1])
    with listener, address.recorded(tmp_path):
        assert running_url(tmp_path) == address.url == f"http://127.0.0.1:{address.port}"
    assert list(tmp_path.iterdir()) == []


def test_chat_prefers_running_server_to_settings(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(tmp_path))
    monkeypatch.setenv("PORT", "8123")
    assert _server_url(None) == "http://127.0.0.1:8123"
    address = Address("127.0.0.1", listener.getsockname()[1])
    with listener, address.recorded(tmp_path):
        assert _server_url(None) == address.url
        assert _server_url("http://127.0.0.1:1") == "http://127.0.0.1:1"


@pytest.mark.parametrize("content", [b"", b"http://", b"http://127.0.0.1:x", b"\xff\xfe", b"http://127.0.0.1:{free}"])
def test_record_of_no_server_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD).write_bytes(content.replace(b"{free}", str(ports.choose_port(0)).encode()))
    assert running_url(tmp_path) is None
    assert running_url(tmp_path / "missing") is None


def test_unwritable_home_is_no_error(tmp_path: Path) -> None:
    with Address("127.0.0.1", 8000).recorded(tmp_path / "missing"):
        assert running_url(tmp_path / "missing") is None


def test_end_of_a_second_server_keeps_the_record_of_the_first(tmp_path: Path) -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as first,
        closing(socket.create_server(("127.0.0.1", 0))) as other,
    ):
        addresses = [Address("127.0.0.1", listener.getsockname()[1]) for listener in (first, other)]
        with addresses[0].recorded(tmp_path):
            with addresses[1].recorded(tmp_path):
                assert running_url(tmp_path) == addresses[1].url
            assert running_url(tmp_path) == addresses[0].url
        assert not (tmp_path / RECORD).exists()


def test_end_of_the_first_server_keeps_the_record_of_the_second(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        ended, running = Address("127.0.0.1", 1), Address("127.0.0.1", listener.getsockname()[1])
        with ExitStack() as stack:
            with ended.recorded(tmp_path):
                stack.enter_context(running.recorded(tmp_path))
            assert running_url(tmp_path) == running.url
        assert running_url(tmp_path) is None
