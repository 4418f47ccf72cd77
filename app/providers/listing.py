"""The list of a server's models, in OpenAI's format or one close to it."""

from collections.abc import Iterable

from app.outbound.deadlines import Deadlines
from app.outbound.errors import OutboundError
from app.outbound.transport import Body, Transport
from app.providers.failures import ErrorTranslator
from app.providers.sse import ProtocolError, lenient_json

LIST_SECONDS = 10.0  # for the complete list, connecting included
LIST_BYTES = 4_194_304  # OpenRouter's list, the longest known, has 0.6 MB
MAX_MODELS = 1000
NAME_CHARS = 200


def list_models(transport: Transport, deadlines: Deadlines, errors: ErrorTranslator) -> list[str]:
    """Return the names of the models in the server's order, without duplicates. Raises `ProviderError`."""
    try:
        body = transport.get("models", deadlines)
        try:
            if body.status != 200:
                raise errors.from_status(body.status, body.headers, body.read_error())
            document = lenient_json(_read_all(body))
        finally:
            body.close()
    except ProtocolError as error:
        raise errors.protocol_error(str(error)) from None
    except OutboundError as error:
        raise errors.from_outbound(error) from None
    items = document.get("data") if isinstance(document, dict) else document
    if not isinstance(items, list):
        raise errors.protocol_error("sent an invalid list of models")
    return valid_names(item.get("id") for item in items if isinstance(item, dict))


def valid_names(names: Iterable[object]) -> list[str]:
    """Return the usable names in their order, without duplicates, at most MAX_MODELS.

    A name that is not printable is not usable: PostgreSQL cannot store NUL, for example.
    """
    usable = (name for name in names if isinstance(name, str) and 0 < len(name) <= NAME_CHARS and name.isprintable())
    return list(dict.fromkeys(usable))[:MAX_MODELS]


def _read_all(body: Body) -> bytes:
    parts, size = list[bytes](), 0
    while data := body.read():
        parts.append(data)
        size += len(data)
        if size > LIST_BYTES:
            raise ProtocolError(f"sent a list of models of more than {LIST_BYTES} bytes")
    return b"".join(parts)
