"""Many streams at once: what a piece costs, how soon the first one comes, and what is held meanwhile."""

import asyncio
import threading
from dataclasses import dataclass

from tests.bench.bench import Place, Server, Used, percentile
from tests.bench.clients import Heard, chat, listen

PIECES, PAUSE = 50, 0.1  # five seconds of talk
ARRIVALS = 1.0  # seconds within which all begin
LOOK_EVERY = 0.25  # seconds, at the connections in use


@dataclass
class Streams:
    """One load. Times in milliseconds, memory in bytes, CPU in microseconds of all workers for one piece."""

    streams: int
    completed: int
    first_p50: float
    first_p99: float
    cpu_per_piece: float
    memory: int
    held: int


def run(place: Place, counts: tuple[int, ...], *, wsgi: str) -> list[Streams]:
    """The loads one after the other on one server, each after the last has ended."""
    tokens = [account.access_token for account in place.accounts(max(counts))]
    with place.server(pieces=PIECES, pause=PAUSE, wsgi=wsgi) as server:
        asyncio.run(listen(server.port, [chat(token, server.port, stream=True) for token in tokens[:20]], 0.5))  # warm
        return [_load(server, tokens[:count]) for count in counts]


def _load(server: Server, tokens: list[str]) -> Streams:
    requests = [chat(token, server.port, stream=True) for token in tokens]
    workers = server.workers()
    before = Used.by(workers)
    heard: list[Heard] = []
    load = threading.Thread(target=lambda: heard.extend(asyncio.run(listen(server.port, requests, ARRIVALS))))
    load.start()
    load.join(ARRIVALS + PIECES * PAUSE / 2)
    held = [_in_use(server)]
    while load.is_alive():
        held.append(_in_use(server))
        load.join(LOOK_EVERY)
    after = Used.by(workers)
    firsts = [one.first_token * 1000 for one in heard if one.first_token is not None]
    return Streams(
        streams=len(tokens),
        completed=sum(one.completed and one.pieces == PIECES for one in heard),
        first_p50=percentile(firsts, 0.5),
        first_p99=percentile(firsts, 0.99),
        cpu_per_piece=(after.cpu - before.cpu) * 1e6 / (len(tokens) * PIECES),
        memory=after.largest,
        # In use whenever one looks: what a moment's statement uses is not held. The last look may be after the end.
        held=min(held[:-1] or held),
    )


def _in_use(server: Server) -> int:
    """Connections, just now."""
    return int(server.metrics().value("db_pool_connections", state="used"))
