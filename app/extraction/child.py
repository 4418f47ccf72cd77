"""The program of the child process: reads a file from its input and writes the text to its output, as lines of JSON.

Arguments: the media type, then the limits as numbers: characters, seconds, bytes of memory, bytes of output. Lines are
`{"text": ..., "page": ...}`; the last one is `{"end": true, "truncated": ...}` or `{"failed": reason}`.
"""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, BinaryIO

import orjson

from app.enums import FileTextFailure
from app.extraction import sandbox
from app.extraction.errors import ExtractionFailed
from app.extraction.pieces import Piece, cut

CHECK = "check"  # instead of a media type: exit with 0 if the process can be separated from the network
_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_READERS = {"application/pdf": "pdf", _DOCX: "docx", "text/html": "html"}

Reader = Callable[[BinaryIO, int], Iterator[Piece]]


def main(arguments: list[str]) -> int:
    """Write the text of the file at standard input to standard output; return the exit code."""
    if arguments == [CHECK]:
        return 0 if sandbox.leave_network() else 1
    media_type, (characters, seconds, memory, output) = arguments[0], map(int, arguments[1:])
    sandbox.leave_network()
    sandbox.set_limits(seconds=seconds, memory=memory, output=output)
    read: Reader = import_module(f"app.extraction.{_READERS.get(media_type, 'plain')}").read
    sandbox.forbid_opening()
    try:
        truncated = False
        for piece in cut(read(sys.stdin.buffer, characters), characters):
            truncated = piece is None
            if piece is not None:
                _write({"text": piece.text, "page": piece.page})
        _write({"end": True, "truncated": truncated})
    except ExtractionFailed as error:
        _write({"failed": error.reason})
    except MemoryError:
        _write({"failed": FileTextFailure.MEMORY})
    return 0


def _write(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
