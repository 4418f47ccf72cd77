"""OpenAI's own package, used where its cost does not matter: for the list of models and the operators' cross-check.

Importing it takes a third of a second and 24 MB, so it is imported on first use. Turns do not use it:
docs/adr/0006-providers-over-urllib3.md gives the reason.
"""

import importlib
import ssl
import time
from typing import TYPE_CHECKING, Final, cast

import gevent
from gevent import monkey

from app.errors import ProviderError, ProviderTimedOut
from app.outbound.errors import DeadlineExceeded, InvalidResponse, OutboundError
from app.providers.failures import ErrorTranslator

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import OpenAI

BODY_BYTES: Final = 4_194_304


def list_models(*, base_url: str, api_key: str, seconds: float, errors: ErrorTranslator) -> list[str]:
    """Return the names of the models that the key gives access to. Raises `ProviderError`.

    `seconds` bounds each wait on the network, and the arrival of the body.
    """
    client = new_client(base_url, api_key, seconds)
    import openai

    try:
        with client:
            return [model.id for model in client.models.list()]
    except openai.APIStatusError as error:
        raise errors.from_status(error.status_code, error.response.headers, error.response.content) from None
    except openai.APITimeoutError:
        raise ProviderTimedOut(f"The provider openai sent no list of models within {seconds:g} seconds.") from None
    except openai.APIConnectionError as error:
        raise errors.from_exception(error) from None
    except OutboundError as error:  # of `_bound_body`
        raise errors.from_outbound(error) from None
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
        raise errors.protocol_error("sent an invalid list of models") from None


def cross_check(*, base_url: str, api_key: str, model: str, question: str, seconds: float) -> str:
    """Return the answer to a question. Raises `ProviderError`, whose detail has no key."""
    client = new_client(base_url, api_key, seconds)
    import openai

    try:
        with client:
            answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
            return answer.choices[0].message.content or ""
    except openai.APIStatusError as error:
        raise ProviderError(f"HTTP {error.status_code}") from None
    except openai.APITimeoutError:
        raise ProviderError(f"no answer within {seconds:g} seconds") from None
    except OutboundError as error:  # of `_bound_body`
        raise ProviderError(f"it {error}") from None
    except (openai.OpenAIError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise ProviderError(type(error).__name__) from None


def new_client(base_url: str, api_key: str, seconds: float) -> "OpenAI":
    """Return a client with the settings of `app.outbound.transport`: system authorities, no proxies, no redirects."""
    if monkey.is_module_patched("threading"):  # in a native thread, so that streams continue
        gevent.get_hub().threadpool.apply(importlib.import_module, ("openai",))
    import openai

    # The empty strings keep the package from reading its own environment variables.
    return openai.OpenAI(
        api_key=api_key or "none",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=base_url,
        timeout=seconds,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=seconds,
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [lambda response: _bound_body(response, seconds)]},
        ),
    )


def _bound_body(response: "Response", seconds: float) -> None:
    """Read the body of a response here, because httpx2 bounds neither its bytes nor its time. Raises `OutboundError`.

    httpx2 would also decompress it, without a limit and in several layers; so a compressed one is rejected.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidResponse("answered in a compression that was not requested: turn it off in the server or proxy")
    import httpx2

    until, body = time.monotonic() + seconds, bytearray()
    for piece in cast(httpx2.SyncByteStream, response.stream):
        body += piece
        if len(body) > BODY_BYTES:
            raise InvalidResponse(f"answered with more than {BODY_BYTES} bytes")
        if time.monotonic() > until:
            raise DeadlineExceeded(f"did not finish its answer within {seconds:g} seconds")
    response.stream = httpx2.ByteStream(bytes(body))
