"""TLS: only what can be verified is spoken to."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import ProviderTimedOut, ProviderUnreachable
from tests.fakes import scripts
from tests.fakes.dripping import DrippingProxy
from tests.fakes.tls import CERTIFICATE, server_context
from tests.fakes.upstream import Upstream
from tests.providers.conftest import HELLO, MakeProvider, listen


@pytest.fixture
def tls_upstream() -> Upstream:
    return Upstream(scripts.words(count=3, pause=0.01), tls=server_context())


def test_an_authority_named_in_the_environment_is_trusted(
    tls_upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with tls_upstream:
        provider = make_provider(url=tls_upstream.base_url)
        assert listen(provider).text == "word0 word1 word2 "
        assert listen(provider).text == "word0 word1 word2 "
        assert tls_upstream.connections == 1
        with provider.stream(HELLO) as events:
            next(events)
        tls_upstream.wait_for(lambda: tls_upstream.open_connections == 0)


def test_an_unknown_authority_is_not(tls_upstream: Upstream, make_provider: MakeProvider) -> None:
    with tls_upstream, pytest.raises(ProviderUnreachable, match="certificate that cannot be verified"):
        listen(make_provider(url=tls_upstream.base_url))
    assert tls_upstream.requests == [], "no request, and no key, went out"


def test_another_host_s_certificate_is_not(
    tls_upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with tls_upstream, pytest.raises(ProviderUnreachable, match="certificate that cannot be verified"):
        listen(make_provider(url=tls_upstream.base_url.replace("127.0.0.1", "localhost")))


def test_tls_to_a_server_without(make_provider: MakeProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def answer_in_plain_text() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        pool.submit(answer_in_plain_text)
        with pytest.raises(ProviderUnreachable, match="could not be spoken to over TLS"):
            listen(make_provider(url=f"https://127.0.0.1:{listener.getsockname()[1]}/v1"))


def test_a_handshake_that_drips(tls_upstream: Upstream, make_provider: MakeProvider) -> None:
    with tls_upstream, DrippingProxy(tls_upstream.port) as proxy:
        provider = make_provider(url=f"https://127.0.0.1:{proxy.port}/v1", connect=0.25)
        with pytest.raises(ProviderTimedOut, match=r"accepted no connection within 0\.25 seconds"):
            listen(provider)
