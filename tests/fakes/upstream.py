"""A fake OpenAI-compatible server on loopback, whose responses are scripts.

In a test it runs in a thread of its own (one asyncio loop, so hundreds of slow streams need one thread):

    with Upstream(words(count=50, pause=0.1)) as upstream:
        ... send requests to upstream.base_url ...
        upstream.wait_for(lambda: upstream.open_streams == 0)

`upstream.script = ...` is the response to the next requests, `upstream.models` to a GET. `upstream.queue_scripts(a, b)`
sets the responses to the next two requests only. As a process of its own, for tests that kill processes:

    python -m tests.fakes.upstream --port 9999 --script "words(count=50, pause=0.1)"

It prints `listening on http://127.0.0.1:9999/v1` when it accepts connections. `GET /seen` returns the requests as JSON.
The scripts are in `tests/fakes/scripts.py`.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.fakes import scripts
from tests.fakes.exchange import Connection, Disconnected, Exchange, Script

START_SECONDS = 60
STOP_ROUNDS = 1000


@dataclasses.dataclass
class Seen:
    """One received request. `body` is its JSON, or None. `ended` is None at first, then complete or disconnected."""

    path: str
    headers: dict[str, str]
    body: Any
    at: float
    connection: int
    ended: str | None = None


class Upstream:
    """The fake server. Its counters may be read in any thread; `wait_for` waits for them without polling."""

    def __init__(
        self, script: Script | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None, backlog: int = 1024
    ) -> None:
        self.script = script or scripts.words()
        self.models = scripts.status(200, scripts.MODELS)
        self.requests: list[Seen] = []
        self.listings: list[Seen] = []
        self.connections = 0
        self.open_connections = 0
        self.open_streams = 0
        self.peak_streams = 0
        self.disconnects = 0
        self.failures: list[BaseException] = []
        self._next: deque[Script] = deque()
        self._changed = threading.Condition()
        self._port, self._tls, self._backlog = port, tls, backlog
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive: set[Connection] = set()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._started = threading.Event()
        self._stop = asyncio.Event()

    @property
    def port(self) -> int:
        return self._port

    @property
    def base_url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/v1"

    def queue_scripts(self, *queued: Script) -> None:
        """Answer the next requests with these scripts, one each; after them with `script` again."""
        self._next.extend(queued)

    def drop_idle(self) -> None:
        """Close all idle connections, as servers do after a while."""
        self._loop.call_soon_threadsafe(self._drop_idle)

    def _drop_idle(self) -> None:
        for connection in list(self._alive):
            if not connection.busy:
                connection.transport.close()

    def wait_for(self, predicate: Callable[[], bool], seconds: float = 60) -> None:
        """Return as soon as `predicate` holds. Raises AssertionError after `seconds`."""
        with self._changed:
            assert self._changed.wait_for(predicate, seconds), f"not seen within {seconds} s: {self.summary()}"

    def summary(self) -> dict[str, Any]:
        return {
            "requests": [dataclasses.asdict(seen) for seen in list(self.requests)],
            "connections": self.connections,
            "open_connections": self.open_connections,
            "open_streams": self.open_streams,
            "peak_streams": self.peak_streams,
            "disconnects": self.disconnects,
        }

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_SECONDS), "the upstream did not start"
        if self.failures:
            raise self.failures[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(START_SECONDS)
        if kind is None and self.failures:
            raise self.failures[0]

    def serve_forever(self) -> None:
        """Run in this thread until interrupted."""
        self._run()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self.failures.append(error)
            self._started.set()
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(
            lambda: Connection(self._connected, self._lost, self._spawn),
            "127.0.0.1",
            self._port,
            ssl=self._tls,
            backlog=self._backlog,
        )
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        # A server that is closed while it accepts leaks the connection: so stop accepting first, and close at the end.
        for listener in server.sockets:
            self._loop.remove_reader(listener.fileno())
        await self._abort_all()
        server.close()

    async def _abort_all(self) -> None:
        """Abort all responses, connections and TLS handshakes."""
        for task in list(self._tasks):
            task.cancel()
        for _ in range(STOP_ROUNDS):
            await asyncio.sleep(0.001)
            for connection in list(self._alive):
                connection.abort()
            # Only asyncio has the transports in a handshake, and has no public list of them before Python 3.13.
            for transport in list(getattr(self._loop, "_transports", {}).values()):
                if transport.get_protocol() is not None:  # otherwise it is closed already
                    transport.abort()
            if not self._alive and len(asyncio.all_tasks()) == 1:
                return

    def _connected(self, connection: Connection) -> int:
        with self._changed:
            self._alive.add(connection)
            self.connections += 1
            self.open_connections += 1
            self._changed.notify_all()
            return self.connections

    def _lost(self, connection: Connection) -> None:
        # asyncio closes the socket right after this; a connection that is not counted is closed.
        self._loop.call_soon(self._count_lost, connection)

    def _count_lost(self, connection: Connection) -> None:
        with self._changed:
            self._alive.discard(connection)
            self.open_connections -= 1
            self._changed.notify_all()

    def _spawn(self, exchange: Exchange) -> None:
        task = self._loop.create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/seen":
            await scripts.status(200, self.summary())(exchange)
            exchange.finished()
            return
        seen = Seen(exchange.path, exchange.headers, exchange.json(), time.monotonic(), exchange.connection.number)
        lists = exchange.method == "GET"
        script = self.models if lists else self._next.popleft() if self._next else self.script
        with self._changed:
            (self.listings if lists else self.requests).append(seen)
            self.open_streams += 1
            self.peak_streams = max(self.peak_streams, self.open_streams)
            self._changed.notify_all()
        try:
            await script(exchange)
            seen.ended = "complete"
        except Disconnected:
            seen.ended = "disconnected"
        except asyncio.CancelledError:
            seen.ended = "stopped"
            raise
        except Exception as error:
            self.failures.append(error)
            exchange.connection.abort()
        finally:
            with self._changed:
                self.open_streams -= 1
                self.disconnects += seen.ended == "disconnected"
                self._changed.notify_all()
        exchange.finished()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", default="words()", help='a script and its arguments, such as "words(count=9)"')
    options = parser.parse_args(arguments)
    upstream = Upstream(scripts.parse(options.script), port=options.port)

    def announce() -> None:
        upstream._started.wait(START_SECONDS)
        print(f"listening on {upstream.base_url}", flush=True)  # noqa: T201  # the starting process waits for this line

    threading.Thread(target=announce, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        upstream.serve_forever()
    if upstream.failures and not isinstance(upstream.failures[0], KeyboardInterrupt):
        sys.exit(f"upstream: {upstream.failures[0]!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
