"""Decompression of response bodies in pieces of bounded size.

A request asks for no compression, but some proxies compress nevertheless. Deflate turns one byte into a thousand, and
twice compressed one byte into a million, so a body may be compressed once only, its pieces are bounded, and so is the
ratio of its sizes.
"""

import zlib
from typing import Final

from app.outbound.errors import InvalidResponse
from app.text import shortened

MAX_EXPANSION: Final = 100  # times; events compress to a thirtieth, seldom to less
FREE_BYTES: Final = 1_048_576  # of decompressed data, before the ratio counts

_IDENTITY = ("", "identity")
_ENCODINGS = ("gzip", "x-gzip", "deflate")
_ANY_HEADER = 32 + zlib.MAX_WBITS  # gzip or zlib
_NO_HEADER = -zlib.MAX_WBITS  # "deflate" of some servers


def decoder_of(content_encoding: str) -> "Decoder | None":
    """Return the decoder of a body with this Content-Encoding, None if it is not compressed.

    Raises `InvalidResponse` for any other compression, and for more than one.
    """
    encodings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in _IDENTITY]
    if not encodings:
        return None
    unsupported = [name for name in encodings if name not in _ENCODINGS]
    if unsupported or len(encodings) > 1:
        named = min(unsupported) if unsupported else ", ".join(encodings)
        raise InvalidResponse(
            "answered in a compression that was not requested and cannot be read: turn it off in the server or proxy",
            reason=f"Content-Encoding: {shortened(named, 50)}",
        )
    return Decoder()


class Decoder:
    """The decompression of one body. Call `decode` while `has_input`, then `feed` with the next piece, and so on."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_ANY_HEADER)
        self._started = self._ended = False  # ended: the rest is garbage, or there is none
        self._input = b""
        self._is_full = False  # whether the last call returned as much as it might, so that more may follow
        self._bytes_in = self._bytes_out = 0

    @property
    def has_input(self) -> bool:
        """Whether `decode` may return more before the next `feed`. The header is read from two bytes or more."""
        return self._is_full or len(self._input) > (0 if self._started else 1)

    def feed(self, data: bytes) -> None:
        """Add the next piece of the compressed body."""
        self._bytes_in += len(data)
        if not self._ended:
            self._input += data

    def decode(self, max_bytes: int) -> bytes:
        """Return the next decompressed bytes, at most `max_bytes`, often none.

        Raises `InvalidResponse` if the data is damaged or expands too much.
        """
        try:
            data = self._inflate(max_bytes)
        except zlib.error:
            raise InvalidResponse("sent a compressed body that cannot be decompressed") from None
        self._is_full = len(data) == max_bytes
        self._bytes_out += len(data)
        if self._bytes_out > max(FREE_BYTES, MAX_EXPANSION * self._bytes_in):
            raise InvalidResponse(f"sent a compressed body that expands to more than {MAX_EXPANSION} times its size")
        return data

    def _inflate(self, max_bytes: int) -> bytes:
        is_next = self._inflater.eof  # a further gzip member, or garbage
        if is_next:
            self._inflater = zlib.decompressobj(_ANY_HEADER)
        try:
            data = self._inflater.decompress(self._input, max_bytes)
        except zlib.error:
            if is_next:
                self._input, self._ended = b"", True
                return b""
            if self._started:
                raise
            self._inflater = zlib.decompressobj(_NO_HEADER)
            data = self._inflater.decompress(self._input, max_bytes)
        self._started = True
        self._input = self._inflater.unconsumed_tail or self._inflater.unused_data
        return data
