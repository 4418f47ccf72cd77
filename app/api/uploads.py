"""The bodies of uploads, read in pieces: raw, or as a form with one file."""

from collections.abc import Iterator

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from app.api.body_limits import FORM_BYTES
from app.api.parsing import reading_body
from app.errors import InvalidInput

PIECE_BYTES = 256 * 1024
_FORM = "Send a form (multipart/form-data) with one file in the field `file`, or the bytes by PUT."


def raw_body() -> Iterator[bytes]:
    """Return the body in pieces. A body that is announced as too large is refused now.

    The iterator must be exhausted: it raises `InvalidInput` at its end if the body is shorter than announced, because
    the connection was cut. Raises `InvalidInput`, `BodyTimeout` and Werkzeug's errors of bodies.
    """
    _ = request.stream  # compares Content-Length with the limit
    return _whole_body()


def _whole_body() -> Iterator[bytes]:
    size = 0
    while piece := _read_piece():
        size += len(piece)
        yield piece
    if request.content_length is not None and size != request.content_length:  # gunicorn only ends the stream
        raise InvalidInput("The body ends too early; send it again.")


def form_file() -> tuple[str, Iterator[bytes]]:
    """Return the name and the bytes, in pieces, of the form's only file, in the field `file`.

    The iterator must be exhausted: it raises `InvalidInput` at its end if the form has more. Raises as `raw_body`.
    """
    boundary = request.mimetype_params.get("boundary")
    if request.mimetype != "multipart/form-data" or not boundary:
        raise InvalidInput(_FORM)
    events = _events(boundary.encode("latin-1", "replace"))
    for event in events:
        if isinstance(event, File) and event.name == "file" and event.filename:
            return event.filename, _bytes_of_file(events)
        if isinstance(event, File | Field):
            raise InvalidInput(f"The form has the field {event.name!r}. {_FORM}")
    raise InvalidInput(f"The form is empty. {_FORM}")


def _bytes_of_file(events: Iterator[Event]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Data):
            if event.data:
                yield event.data
        elif isinstance(event, Epilogue):
            return
        elif isinstance(event, File | Field):
            raise InvalidInput(f"The form has more than one field. {_FORM}")
    raise InvalidInput("The form ends too early; send it again.")


def _events(boundary: bytes) -> Iterator[Event]:
    decoder = MultipartDecoder(boundary, max_form_memory_size=PIECE_BYTES + FORM_BYTES, max_parts=2)
    try:
        while True:
            piece = _read_piece()
            decoder.receive_data(piece or None)
            while not isinstance(event := decoder.next_event(), NeedData):
                yield event
                if isinstance(event, Epilogue):
                    return
    except (ValueError, RequestEntityTooLarge):  # of the decoder: malformed, or headers or parts without end
        raise InvalidInput(f"The form is malformed. {_FORM}") from None


def _read_piece() -> bytes:
    with reading_body():
        return request.stream.read(PIECE_BYTES)
