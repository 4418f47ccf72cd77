"""Hanging up from another thread: the one that waits wakes, the provider sees it, and nobody else is hurt."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from app.errors import ProviderError
from app.providers.base import ChatMessage, ChatRequest, Hangup
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.exchange import Script
from tests.fakes.tls import CERTIFICATE, server_context
from tests.fakes.upstream import Upstream
from tests.providers.conftest import HELLO, MakeProvider, listen


def hello(hangup: Hangup) -> ChatRequest:
    return ChatRequest([ChatMessage("user", "hello")], hangup=hangup)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("script", [scripts.hang(), scripts.hang(after=1)], ids=["no headers", "after a word"])
def test_who_waits_is_woken(
    make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch, script: Script, tls: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    far = {"first_token": 1000, "idle": 1000, "total": 1000}
    with Upstream(script, tls=server_context() if tls else None) as upstream, ThreadPoolExecutor(1) as pool:
        hangup = Hangup()
        waiting = pool.submit(listen, make_provider(url=upstream.base_url, **far), hello(hangup))
        upstream.wait_for(lambda: upstream.open_streams == 1)
        hangup()
        with pytest.raises(ProviderError):
            waiting.result(20)
        upstream.wait_for(lambda: upstream.disconnects == 1)
    assert hangup.done


@pytest.mark.timeout(30)
def test_hung_up_before_it_began(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.hang()
    hangup = Hangup()
    hangup()
    with pytest.raises(ProviderError):
        listen(provider, hello(hangup))
    upstream.wait_for(lambda: upstream.open_streams == 0)


@pytest.mark.parametrize("script", [scripts.answer(), scripts.recorded("llamacpp_no_done"), scripts.words(2)])
def test_too_late_it_does_not_cut_the_next_one(upstream: Upstream, provider: ChatCompletions, script: Script) -> None:
    """The body has come to its end and its connection may be another stream's, although this one was not left yet."""
    upstream.then(script)
    upstream.script = scripts.words(count=3, pause=0.05, first=0.1)
    hangup = Hangup()
    with ExitStack() as stack:
        events = stack.enter_context(provider.stream(hello(hangup)))
        assert list(events)
        other = stack.enter_context(provider.stream(HELLO))
        hangup()
        assert len(list(other)) == 4
