"""Run as a process: a circuit under gevent, as in a web worker; prints what came as JSON.

python -m tests.providers.gevent_circuit URL CALLERS

One failure opens the circuit, which is open for a moment. Then CALLERS ask at once; then one is hung up on while it
waits to ask again.
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
from app.providers.base import ChatMessage, ChatRequest, Hangup, TextDelta  # noqa: E402
from app.providers.registry import ProviderRegistry  # noqa: E402


class HangsUp(logging.Handler):
    """A moment after somebody is said to be asked again: then the wait is under way."""

    hangup: Hangup

    def emit(self, record: logging.LogRecord) -> None:
        if "asked again" in record.getMessage():
            gevent.spawn_later(0.2, self.hangup)


def main(url: str, callers: str) -> None:
    known: dict[str, Any] = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": url, "AI_TOTAL_TIMEOUT": 3000}
    circuit = {"AI_RETRIES": 0, "AI_BREAKER_FAILURES": 1, "AI_BREAKER_SECONDS": 0.2}
    brief = ProviderRegistry(ProviderSettings(**(known | circuit)))
    patient = ProviderRegistry(ProviderSettings(**known))

    waits = HangsUp()
    logging.getLogger("parley.providers").addHandler(waits)
    logging.getLogger("parley.providers").setLevel(logging.INFO)

    def ask(registry: ProviderRegistry) -> str:
        request = ChatRequest([ChatMessage("user", "hello")])
        waits.hangup = request.hangup
        try:
            with registry.stream(None, request) as (_, events):
                return "".join(event.text for event in events if isinstance(event, TextDelta))
        except ProviderError as error:
            return error.code

    said = [ask(brief), ask(brief)]
    gevent.sleep(0.3)
    crowd = [gevent.spawn(ask, brief) for _ in range(int(callers))]
    gevent.joinall(crowd, raise_error=True)
    said += [ask(brief), ask(patient)]
    sys.stdout.write(json.dumps({"one by one": said, "together": Counter(one.get() for one in crowd)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
