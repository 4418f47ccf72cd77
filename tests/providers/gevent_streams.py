"""A process that sends concurrent requests to one provider under gevent, and prints the answers as JSON.

python -m tests.providers.gevent_streams URL COUNT IDLE_SECONDS CONNECT_SECONDS [CANCEL_AFTER_SECONDS]
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402  # everything else is imported after the patch, as gunicorn's worker does
import sys  # noqa: E402
from collections import Counter  # noqa: E402

import gevent  # noqa: E402

from app.errors import ProviderError  # noqa: E402
from app.outbound.timeouts import Timeouts  # noqa: E402
from app.providers.base import ChatMessage, ChatRequest, TextDelta  # noqa: E402
from app.providers.compatible import CompatibleProvider  # noqa: E402


def main(url: str, count: str, idle: str, connect: str, cancel_after: str | None = None) -> None:
    timeouts = Timeouts(connect=float(connect), first_token=20, idle=float(idle), total=30)
    provider = CompatibleProvider(base_url=url, api_key="k", model="m", timeouts=timeouts)

    def chat(number: int) -> str:
        request = ChatRequest([ChatMessage("user", f"chat {number}")])
        if cancel_after is not None:
            gevent.spawn_later(float(cancel_after), request.cancel_token.cancel)
        try:
            with provider.stream(request) as events:
                return "".join(event.text for event in events if isinstance(event, TextDelta))
        except ProviderError as error:
            return error.detail

    chats = [gevent.spawn(chat, number) for number in range(int(count))]
    gevent.joinall(chats, raise_error=True)
    sys.stdout.write(json.dumps(Counter(greenlet.get() for greenlet in chats)))


if __name__ == "__main__":
    main(*sys.argv[1:])
