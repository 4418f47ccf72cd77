"""The list of a server's models, as OpenAI's API has it and others nearly have it."""

from typing import Any

from urllib3.exceptions import HTTPError

from app.errors import ProviderError
from app.providers.deadlines import Deadlines
from app.providers.failures import Explainer
from app.providers.sse import NotUnderstood, lenient_json
from app.providers.transport import Body, Transport

LIST_SECONDS = 10.0  # for all of it, connecting included
LIST_BYTES = 4_194_304  # OpenRouter's, the longest known, has 0.6 MB
MODELS = 1000  # names that are taken
NAME_CHARS = 200


def list_models(transport: Transport, deadlines: Deadlines, explain: Explainer) -> list[str]:
    """The names of the models, in the server's order, each once. Raises ProviderError."""
    try:
        body = transport.get("models", deadlines)
        try:
            if body.status != 200:
                raise explain.status(body.status, body.headers, body.read_error())
            told = lenient_json(_whole(body))
        finally:
            body.close()
    except ProviderError:
        raise
    except NotUnderstood as error:
        raise explain.bad_answer(str(error)) from None
    except (HTTPError, OSError, UnicodeError) as error:
        raise explain.broken(error) from None
    items = told.get("data") if isinstance(told, dict) else told
    if not isinstance(items, list):
        raise explain.bad_answer("sent a list of models that cannot be understood")
    names = dict.fromkeys(name for name in map(_name, items) if name)
    return list(names)[:MODELS]


def _whole(body: Body) -> bytes:
    parts, room = list[bytes](), LIST_BYTES
    while data := body.read():
        parts.append(data)
        room -= len(data)
        if room < 0:
            raise NotUnderstood(f"sent a list of models of more than {LIST_BYTES} bytes")
    return b"".join(parts)


def _name(item: Any) -> str | None:
    """Printable, which what PostgreSQL cannot store is not."""
    name = item.get("id") if isinstance(item, dict) else None
    return name if isinstance(name, str) and 0 < len(name) <= NAME_CHARS and name.isprintable() else None
