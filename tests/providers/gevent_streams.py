"""Run as a process: many chats at once through one provider under gevent, as in a web worker; prints what came as JSON.

python -m tests.providers.gevent_streams URL COUNT IDLE_SECONDS CONNECT_SECONDS [HANG_UP_AFTER_SECONDS]
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402  # everything else is imported after the patch, as gunicorn's worker does
import sys  # noqa: E402
from collections import Counter  # noqa: E402

import gevent  # noqa: E402

from app.errors import ProviderError  # noqa: E402
from app.providers.base import ChatMessage, ChatRequest, TextDelta, Timeouts  # noqa: E402
from app.providers.compatible import CompatibleProvider  # noqa: E402


def main(url: str, count: str, idle: str, connect: str, hang_up: str | None = None) -> None:
    timeouts = Timeouts(connect=float(connect), first_token=20, idle=float(idle), total=30)
    provider = CompatibleProvider(base_url=url, api_key="k", model="m", timeouts=timeouts)

    def chat(number: int) -> str:
        request = ChatRequest([ChatMessage("user", f"chat {number}")])
        if hang_up is not None:
            gevent.spawn_later(float(hang_up), request.hangup)
        try:
            with provider.stream(request) as events:
                return "".join(event.text for event in events if isinstance(event, TextDelta))
        except ProviderError as error:
            return error.detail

    chats = [gevent.spawn(chat, number) for number in range(int(count))]
    gevent.joinall(chats, raise_error=True)
    sys.stdout.write(json.dumps(Counter(one.get() for one in chats)))


if __name__ == "__main__":
    main(*sys.argv[1:])
