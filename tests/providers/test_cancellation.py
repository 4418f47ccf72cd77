"""Cancelling from another thread wakes the reader, closes its connection, and leaves other streams intact."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from app.errors import ProviderError
from app.outbound.cancellation import CancelToken
from app.providers.base import ChatMessage, ChatRequest
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.exchange import Script
from tests.fakes.tls import CERTIFICATE, server_context
from tests.fakes.upstream import Upstream
from tests.providers.conftest import HELLO, MakeProvider, read_answer


def hello(cancel_token: CancelToken) -> ChatRequest:
    return ChatRequest([ChatMessage("user", "hello")], cancel_token=cancel_token)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("script", [scripts.hang(), scripts.hang(after=1)], ids=["no headers", "after a word"])
def test_cancel_wakes_waiting_reader(
    make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch, script: Script, tls: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    long_timeouts = {"first_token": 1000, "idle": 1000, "total": 1000}
    with Upstream(script, tls=server_context() if tls else None) as upstream, ThreadPoolExecutor(1) as pool:
        cancel_token = CancelToken()
        waiting = pool.submit(read_answer, make_provider(url=upstream.base_url, **long_timeouts), hello(cancel_token))
        upstream.wait_for(lambda: upstream.open_streams == 1)
        cancel_token.cancel()
        with pytest.raises(ProviderError):
            waiting.result(20)
        upstream.wait_for(lambda: upstream.disconnects == 1)
    assert cancel_token.cancelled


@pytest.mark.timeout(30)
def test_cancelled_request_fails_at_start(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.hang()
    cancel_token = CancelToken()
    cancel_token.cancel()
    with pytest.raises(ProviderError):
        read_answer(provider, hello(cancel_token))
    upstream.wait_for(lambda: upstream.open_streams == 0)


@pytest.mark.parametrize("script", [scripts.answer(), scripts.recorded("llamacpp_no_done"), scripts.words(2)])
def test_late_cancel_does_not_break_next_stream(upstream: Upstream, provider: ChatCompletions, script: Script) -> None:
    """After the end of the body the connection may belong to another stream, before this one is left."""
    upstream.queue_scripts(script)
    upstream.script = scripts.words(count=3, pause=0.05, first=0.1)
    cancel_token = CancelToken()
    with ExitStack() as stack:
        events = stack.enter_context(provider.stream(hello(cancel_token)))
        assert list(events)
        other = stack.enter_context(provider.stream(HELLO))
        cancel_token.cancel()
        assert len(list(other)) == 4
