"""Compressed responses: decoded in bounded pieces, and a bomb is a 502 in bounded time and memory."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app.errors import ProviderProtocolError
from app.outbound.decoding import FREE_BYTES, MAX_EXPANSION, Decoder, decoder_of
from app.outbound.errors import InvalidResponse
from app.outbound.transport import READ_BYTES
from app.providers.chat_completions import ChatCompletions
from app.providers.openai import OpenAIProvider
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import MakeProvider, read_answer
from tests.providers.test_failures import failure

BOMB_BYTES = 256 * 1024 * 1024
MAX_GROWTH = 64 * 1024 * 1024  # bytes of memory at its peak


@contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_GROWTH


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def repeated(piece: bytes, deflater: "zlib._Compress") -> bytes:
    block = piece * (1024 * 1024 // len(piece))
    parts = [deflater.compress(block) for _ in range(BOMB_BYTES // len(block))]
    return b"".join(parts) + deflater.flush()


def body(encoding: str, data: bytes, *, status: int = 200, label: str = "text/event-stream") -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(status, label, headers={"Content-Encoding": encoding})
        await exchange.send(data)
        await exchange.end()

    return script


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[str, bytes]]:
    """Return Content-Encoding and body of bombs by their name."""
    layer = {
        name: repeated(piece, zlib.compressobj(9, wbits=31))
        for name, piece in {"spaces": b" ", "comments": b": ping\n\n", "events": b'data: {"choices":[]}\n\n'}.items()
    }
    return {
        **{f"gzip of {name}": ("gzip", data) for name, data in layer.items()},
        "gzip twice": ("gzip, gzip", gzip.compress(layer["spaces"])),
        "gzip twice, named once": ("gzip", gzip.compress(layer["spaces"])),
        "deflate": ("deflate", repeated(b"[", zlib.compressobj(9))),
        "raw deflate": ("deflate", repeated(b"[", zlib.compressobj(9, wbits=-15))),
        "identity and gzip": ("identity, x-gzip", layer["events"]),
        "brotli": ("br", b"\x8b\x02\x80garbage\x03"),
        "zstd": ("zstd", b"\x28\xb5\x2f\xfd" + b"\x00" * 100),
    }


NAMES = [
    "gzip of spaces",
    "gzip of comments",
    "gzip of events",
    "gzip twice",
    "gzip twice, named once",
    "deflate",
    "raw deflate",
    "identity and gzip",
    "brotli",
    "zstd",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", ["text/event-stream", "application/json"])
def test_bomb_in_answer_is_a_protocol_error_in_bounded_memory(
    upstream: Upstream, provider: ChatCompletions, bombs: dict[str, tuple[str, bytes]], name: str, label: str
) -> None:
    upstream.script = body(*bombs[name], label=label)
    with bounded_memory():
        assert type(failure(provider)) is ProviderProtocolError
    upstream.script = scripts.words()
    assert read_answer(provider).text  # the next call is not affected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [lambda make: make(), lambda make: make(OpenAIProvider)], ids=["own", "openai"])
def test_bomb_in_list_of_models_is_a_protocol_error_in_bounded_memory(
    upstream: Upstream,
    make_provider: MakeProvider,
    bombs: dict[str, tuple[str, bytes]],
    make: Callable[[MakeProvider], ChatCompletions],
    name: str,
) -> None:
    provider = make(make_provider)
    provider.models()  # loads what is loaded once
    upstream.models = body(*bombs[name], label="application/json")
    with bounded_memory(), pytest.raises(ProviderProtocolError):
        provider.models()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_bomb_in_error_body_does_not_change_the_error(
    upstream: Upstream, provider: ChatCompletions, bombs: dict[str, tuple[str, bytes]], name: str, status: int
) -> None:
    upstream.script = scripts.api_error(status)
    expected = type(failure(provider))
    upstream.script = body(*bombs[name], status=status, label="application/json")
    with bounded_memory():
        assert type(failure(provider)) is expected


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, raw_deflate])
@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_compressed_body_is_decoded_however_it_is_split(compress: Callable[[bytes], bytes], size: int) -> None:
    text = json.dumps([{"number": number} for number in range(5000)]).encode()
    decoder, received = decoder_of("gzip"), b""
    assert decoder is not None
    compressed = compress(text)
    for start in range(0, len(compressed), size):
        decoder.feed(compressed[start : start + size])
        while decoder.has_input:
            piece = decoder.decode(1000)
            assert len(piece) <= 1000
            received += piece
    assert received == text


def decoded(data: bytes) -> bytes:
    decoder, received = Decoder(), b""
    decoder.feed(data)
    while decoder.has_input:
        received += decoder.decode(READ_BYTES)
    return received


def test_several_gzip_members_are_read_and_what_follows_them_is_ignored() -> None:
    assert decoded(gzip.compress(b"a") + gzip.compress(b"b") + b"garbage") == b"ab"


def test_expansion_is_limited_only_above_the_free_bytes() -> None:
    assert len(decoded(gzip.compress(b" " * FREE_BYTES))) == FREE_BYTES
    with pytest.raises(InvalidResponse, match=f"more than {MAX_EXPANSION} times"):
        decoded(gzip.compress(b" " * (FREE_BYTES + 1)))
