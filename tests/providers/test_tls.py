"""TLS: a server whose certificate cannot be verified gets no request."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import ProviderTimedOut, ProviderUnreachable
from tests.fakes import scripts
from tests.fakes.dripping import DrippingProxy
from tests.fakes.tls import CERTIFICATE, server_context
from tests.fakes.upstream import Upstream
from tests.providers.conftest import HELLO, MakeProvider, read_answer


@pytest.fixture
def tls_upstream() -> Upstream:
    return Upstream(scripts.words(count=3, pause=0.01), tls=server_context())


def test_authority_of_ssl_cert_file_is_trusted(
    tls_upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with tls_upstream:
        provider = make_provider(url=tls_upstream.base_url)
        assert read_answer(provider).text == "word0 word1 word2 "
        assert read_answer(provider).text == "word0 word1 word2 "
        assert tls_upstream.connections == 1
        with provider.stream(HELLO) as events:
            next(events)
        tls_upstream.wait_for(lambda: tls_upstream.open_connections == 0)


def test_unknown_authority_is_rejected(tls_upstream: Upstream, make_provider: MakeProvider) -> None:
    with tls_upstream, pytest.raises(ProviderUnreachable, match="certificate that cannot be verified"):
        read_answer(make_provider(url=tls_upstream.base_url))
    assert tls_upstream.requests == [], "no request was sent"


def test_certificate_of_other_host_is_rejected(
    tls_upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with tls_upstream, pytest.raises(ProviderUnreachable, match="certificate that cannot be verified"):
        read_answer(make_provider(url=tls_upstream.base_url.replace("127.0.0.1", "localhost")))


def test_server_without_tls_fails_handshake(make_provider: MakeProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def answer_in_plain_text() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        pool.submit(answer_in_plain_text)
        with pytest.raises(ProviderUnreachable, match="failed the TLS handshake"):
            read_answer(make_provider(url=f"https://127.0.0.1:{listener.getsockname()[1]}/v1"))


def test_connect_deadline_bounds_tls_handshake(tls_upstream: Upstream, make_provider: MakeProvider) -> None:
    with tls_upstream, DrippingProxy(tls_upstream.port) as proxy:
        provider = make_provider(url=f"https://127.0.0.1:{proxy.port}/v1", connect=0.25)
        with pytest.raises(ProviderTimedOut, match=r"accepted no connection within 0\.25 seconds"):
            read_answer(provider)
