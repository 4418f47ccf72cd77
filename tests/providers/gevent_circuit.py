"""A process that tries a circuit under gevent, as in a web worker, and prints the results as JSON.

python -m tests.providers.gevent_circuit URL CALLERS

One failure opens the circuit for a moment. Then CALLERS send requests at once; then one is cancelled while it handler
before a retry.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402  # everything else is imported after the patch, as gunicorn's worker does
import logging  # noqa: E402
import sys  # noqa: E402
from collections import Counter  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from app.config import Provider as ProviderSettings  # noqa: E402
from app.errors import ProviderError  # noqa: E402
from app.outbound.cancellation import CancelToken  # noqa: E402
from app.providers.base import ChatMessage, ChatRequest, TextDelta  # noqa: E402
from app.providers.registry import ProviderRegistry  # noqa: E402


class CancelOnRetry(logging.Handler):
    """Cancels the request shortly after the log line of a retry, when the wait has begun."""

    cancel_token: CancelToken

    def emit(self, record: logging.LogRecord) -> None:
        if "retrying" in record.getMessage():
            gevent.spawn_later(0.2, self.cancel_token.cancel)


def main(url: str, callers: str) -> None:
    defaults: dict[str, Any] = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": url, "AI_TOTAL_TIMEOUT": 3000}
    circuit = {"AI_RETRIES": 0, "AI_CIRCUIT_FAILURES": 1, "AI_CIRCUIT_OPEN_SECONDS": 0.2}
    short_open = ProviderRegistry(ProviderSettings(**(defaults | circuit)))
    patient = ProviderRegistry(ProviderSettings(**defaults))

    handler = CancelOnRetry()
    logging.getLogger("parley.providers").addHandler(handler)
    logging.getLogger("parley.providers").setLevel(logging.INFO)

    def ask(registry: ProviderRegistry) -> str:
        request = ChatRequest([ChatMessage("user", "hello")])
        handler.cancel_token = request.cancel_token
        try:
            with registry.stream(None, request) as (_, events):
                return "".join(event.text for event in events if isinstance(event, TextDelta))
        except ProviderError as error:
            return error.code

    results = [ask(short_open), ask(short_open)]
    gevent.sleep(0.3)
    greenlets = [gevent.spawn(ask, short_open) for _ in range(int(callers))]
    gevent.joinall(greenlets, raise_error=True)
    results += [ask(short_open), ask(patient)]
    sys.stdout.write(json.dumps({"one by one": results, "together": Counter(greenlet.get() for greenlet in greenlets)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
