"""The delay of health checks while clients send bodies that take long to refuse."""

import multiprocessing
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

import orjson

from tests.bench.environment import BenchServer, Environment, percentile

INTERVAL = 0.01  # seconds between two health checks


@dataclass
class HealthChecks:
    """Times of `/health/live` in milliseconds, and how many requests the other clients sent in this time."""

    p50: float
    p99: float
    requests: int


def measure_health_checks(environment: Environment, seconds: int) -> tuple[HealthChecks, HealthChecks]:
    """Measure health checks alone, and with three clients that send costly bodies one after the other."""
    [account] = environment.accounts(1)
    with environment.server(pieces=1, pause=0) as server:
        requests = _costly_requests(account.access_token)
        _measure(server, (), 1)
        return _measure(server, (), seconds), _measure(server, requests, seconds)


def _costly_requests(token: str) -> tuple[bytes, ...]:
    """Return a login with 110,000 unknown fields, one in 900,000 chunks, and an import of 20,000 invalid messages."""
    fields = orjson.dumps({f"k{number}": 1 for number in range(110_000)})[:1_000_000]
    document = {"version": 1, "conversation": {}, "messages": [{"role": "none", "content": 1}] * 20_000}
    messages = orjson.dumps(document)
    return (
        _head("/api/auth/login", f"Content-Length: {len(fields)}") + fields,
        _head("/api/auth/login", "Transfer-Encoding: chunked") + b"1\r\n \r\n" * 900_000 + b"0\r\n\r\n",
        _head("/api/conversations/import", f"Content-Length: {len(messages)}\r\nAuthorization: Bearer {token}")
        + messages,
    )


def _head(path: str, fields: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: parley", "Connection: close", "Content-Type: application/json", fields)
    return "\r\n".join((*lines, "", "")).encode()


def _send(port: int, request: bytes, stop: Event, sent: "Synchronized[int]") -> None:
    """Send `request` until `stop` is set. Runs in a process of its own, so that it does not delay the measurement."""
    while not stop.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            with suppress(OSError):  # the server may answer before it has read everything
                client.sendall(request)
            while client.recv(65_536):
                pass
        with sent.get_lock():
            sent.value += 1


def _measure(server: BenchServer, requests: tuple[bytes, ...], seconds: float) -> HealthChecks:
    context = multiprocessing.get_context("spawn")
    stop, sent = context.Event(), context.Value("i", 0)
    clients = [context.Process(target=_send, args=(server.port, request, stop, sent)) for request in requests]
    for client in clients:
        client.start()
    while requests and sent.value < len(requests):
        time.sleep(INTERVAL)
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        assert server.http.request("GET", f"{server.url}/health/live").status == 200
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(INTERVAL)
    stop.set()
    for client in clients:
        client.join()
    return HealthChecks(percentile(times, 0.5), percentile(times, 0.99), sent.value)
