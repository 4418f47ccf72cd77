"""The child process, seen from its parent: it is started, limited in time, and its output is not trusted."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from app.enums import FileTextFailure
from app.extraction.child import CHECK
from app.extraction.errors import ExtractionFailed
from app.extraction.pieces import MAX_PIECES, Piece, clean

PROJECT = Path(__file__).parents[2]
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}  # and nothing of the parent's, which has secrets
_CHECK_SECONDS = 10
_LINE_BYTES = 200  # around the text in a line of output
_OUT_OF_TIME = (-signal.SIGXCPU, -signal.SIGALRM)


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """Limits of one extraction: `characters` of text, `seconds` of wall and CPU time, bytes of `memory`."""

    characters: int
    seconds: int
    memory: int

    @property
    def output(self) -> int:
        """The bytes of output that this text can have: a character takes up to 4, in UTF-8 and escaped."""
        return 4 * self.characters + _LINE_BYTES * (MAX_PIECES + 1)


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """The text of a file in pieces; `truncated` if the file has more."""

    pieces: Sequence[Piece]
    truncated: bool


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = None
    page: int | None = None
    end: bool = False
    truncated: bool = False
    failed: str | None = None


def extract(file: BinaryIO, media_type: str, limits: ExtractionLimits) -> ExtractedText:
    """Return the text of a file, which has a descriptor and is read from its position on.

    Raises `ExtractionFailed`, and `OSError` if no process can be started.
    """
    numbers = (limits.characters, limits.seconds, limits.memory, limits.output)
    with tempfile.TemporaryFile() as output:
        with _child([media_type, *map(str, numbers)], file, output) as process:
            try:
                code = process.wait(limits.seconds)
            except subprocess.TimeoutExpired:
                raise ExtractionFailed(FileTextFailure.TIME) from None
        if code in _OUT_OF_TIME:
            raise ExtractionFailed(FileTextFailure.TIME)
        if code != 0:
            raise ExtractionFailed(FileTextFailure.CRASHED)
        output.seek(0)
        return _parsed(output, limits.characters)


def is_separated_from_network() -> bool:
    """Return whether the system lets a child process leave the network."""
    with _child([CHECK], subprocess.DEVNULL, subprocess.DEVNULL) as process:
        return process.wait(_CHECK_SECONDS) == 0


@contextmanager
def _child(
    arguments: list[str], stdin: BinaryIO | int, stdout: "tempfile._TemporaryFileWrapper[bytes] | BinaryIO | int"
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run the child during the block; it is killed if the block ends first."""
    process = subprocess.Popen(  # noqa: S603  # this program, with numbers and a media type of a closed list
        [sys.executable, "-m", "app.extraction.child", *arguments],
        cwd=PROJECT,
        env=_ENVIRONMENT,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _parsed(output: BinaryIO, characters: int) -> ExtractedText:
    """Return the text from the child's output, cleaned and cut here too: a parser that was taken over may write it."""
    pieces: list[Piece] = []
    left = characters
    for content in output:
        try:
            line = _Line.model_validate(orjson.loads(content))
        except (orjson.JSONDecodeError, ValidationError):
            break
        if line.failed is not None:
            raise ExtractionFailed(_reason(line.failed))
        if line.end:
            return ExtractedText(pieces, line.truncated)
        text = clean(line.text or "")[:left]
        left -= len(text)
        if text:
            pieces.append(Piece(text, line.page if line.page is None or line.page > 0 else None))
    raise ExtractionFailed(FileTextFailure.CRASHED)


def _reason(name: str) -> FileTextFailure:
    try:
        return FileTextFailure(name)
    except ValueError:
        return FileTextFailure.CRASHED
