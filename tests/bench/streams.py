"""Many concurrent streams: CPU per delta, time to the first delta, memory, and database connections held."""

import asyncio
import threading
from dataclasses import dataclass

from tests.bench.clients import Result, chat_request, send_all
from tests.bench.environment import BenchServer, Environment, ResourceUsage, percentile

PIECES, PAUSE = 50, 0.1  # an answer takes five seconds
ARRIVALS = 1.0  # seconds within which all streams start
SAMPLE_INTERVAL = 0.25  # seconds between two samples of the connections in use


@dataclass
class Streams:
    """One measurement. Times in milliseconds, memory in bytes, CPU of all workers in microseconds per delta."""

    streams: int
    completed: int
    first_p50: float
    first_p99: float
    cpu_per_delta: float
    memory: int
    held: int


def measure_streams(environment: Environment, counts: tuple[int, ...], *, wsgi: str) -> list[Streams]:
    """Measure each number of streams, one after the other, on one server."""
    tokens = [account.access_token for account in environment.accounts(max(counts))]
    with environment.server(pieces=PIECES, pause=PAUSE, wsgi=wsgi) as server:
        warm_up = [chat_request(token, server.port, stream=True) for token in tokens[:20]]
        asyncio.run(send_all(server.port, warm_up, 0.5))
        return [_measure(server, tokens[:count]) for count in counts]


def _measure(server: BenchServer, tokens: list[str]) -> Streams:
    requests = [chat_request(token, server.port, stream=True) for token in tokens]
    workers = server.workers()
    before = ResourceUsage.of(workers)
    results: list[Result] = []
    load = threading.Thread(target=lambda: results.extend(asyncio.run(send_all(server.port, requests, ARRIVALS))))
    load.start()
    load.join(ARRIVALS + PIECES * PAUSE / 2)
    held = [_connections_in_use(server)]
    while load.is_alive():
        held.append(_connections_in_use(server))
        load.join(SAMPLE_INTERVAL)
    after = ResourceUsage.of(workers)
    firsts = [result.first_delta * 1000 for result in results if result.first_delta is not None]
    return Streams(
        streams=len(tokens),
        completed=sum(result.completed and result.deltas == PIECES for result in results),
        first_p50=percentile(firsts, 0.5),
        first_p99=percentile(firsts, 0.99),
        cpu_per_delta=(after.cpu - before.cpu) * 1e6 / (len(tokens) * PIECES),
        memory=after.largest,
        # The minimum, because a sample also counts statements that are running. The last sample may be after the end.
        held=min(held[:-1] or held),
    )


def _connections_in_use(server: BenchServer) -> int:
    return int(server.metrics().value("db_pool_connections", state="used"))
