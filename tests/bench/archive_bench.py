"""Measure the archival: messages per second, and its effect on the duration of chats.

    python -m tests.bench.archive_bench [--users 1000] [--rate 20] [--seconds 5] [--rounds 12]

Uses a separate database with 1,000 messages for each of `users`, all idle for a year and indexed for search; gunicorn
with two workers and a provider that answers at once; and eight clients that chat at a constant rate, each in its own
conversation. One archival, as `flask ops archive run` does it, is paused and resumed: windows with and without it
alternate, so that other load on the machine affects both. At the end it continues without chats.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import psutil
from sqlalchemy import Connection, Engine, text

from app.config import load_settings
from app.container import current_settings
from app.factory import create_app
from ops.archive.run import run
from ops.archive.throttle import Throttle
from ops.seed import seed
from tests.bench.environment import percentile
from tests.factories import LoggedInUser, insert_user
from tests.faults.live_server import PROJECT, SECRET, LiveServer, application, own_postgres

CLIENTS = 8
WARM_UP = 5.0  # seconds
CHILD = "archival"  # the argument with which this module is the child process
READY = "ready\n"  # the child's first line


class Chats:
    """Eight clients, each in its own conversation, that together send `rate` requests per second."""

    def __init__(self, server: LiveServer, accounts: list[LoggedInUser], rate: float) -> None:
        self._server, self._accounts, self._rate = server, accounts, rate
        self._conversations: dict[int, str] = {}

    def run(self, seconds: float) -> list[float]:
        """Chat for `seconds` and return the duration of each chat in milliseconds."""
        durations: list[float] = []
        end = time.monotonic() + seconds
        clients = [threading.Thread(target=self._run_client, args=(n, end, durations)) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return durations

    def _run_client(self, number: int, end: float, durations: list[float]) -> None:
        due = time.monotonic() + number / self._rate
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due += CLIENTS / self._rate
            body: dict[str, Any] = {"message": "How warm should it be?"}
            if number in self._conversations:
                body["conversation_id"] = self._conversations[number]
            began = time.perf_counter()
            answer = self._server.http.request(
                "POST",
                f"{self._server.url}/api/chat",
                body=orjson.dumps(body),
                headers={**self._accounts[number].headers, "Content-Type": "application/json"},
            )
            durations.append((time.perf_counter() - began) * 1000)
            if answer.status != 200:
                raise AssertionError(f"{answer.status} {answer.data!r}")
            self._conversations[number] = answer.json()["conversation"]["id"]


class Archival:
    """A child process that archives; it starts paused."""

    def __init__(self, server: LiveServer, engine: Engine) -> None:
        self._engine = engine
        command = [sys.executable, "-m", __spec__.name, CHILD]
        self._process = subprocess.Popen(
            command, cwd=PROJECT, env=server.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        assert self._stdout.readline() == READY

    def send(self, command: str) -> None:
        """Send `resume`, `pause`, or `unthrottle`, which resumes without the throttle's pauses."""
        self._stdin.write(f"{command}\n")
        self._stdin.flush()

    def wait(self) -> dict[str, Any]:
        """Wait until everything is archived, and return the report of the run."""
        report: dict[str, Any] = json.loads(self._stdout.readline())
        self._stdin.close()
        self._process.wait()
        return report

    def messages(self) -> int:
        """Count the messages archived so far."""
        with self._engine.connect() as connection:
            return int(connection.execute(text("SELECT coalesce(sum(messages), 0) FROM archive_runs")).scalar_one())

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds used by the process and by its PostgreSQL backends."""
        process = psutil.Process(self._process.pid)
        ports = [connection.laddr.port for connection in process.net_connections(kind="tcp")]
        with self._engine.connect() as connection:
            query = text("SELECT pid FROM pg_stat_activity WHERE client_port = ANY (:ports)")
            backends = [psutil.Process(row.pid) for row in connection.execute(query, {"ports": ports})]
        return cpu_seconds(process), sum(map(cpu_seconds, backends))


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def run_child() -> None:
    """Archive as commands on standard input allow, and print the report."""
    resumed, unthrottled = threading.Event(), threading.Event()

    def read_commands() -> None:
        for line in sys.stdin:
            command = line.strip()
            if command == "unthrottle":
                unthrottled.set()
            (resumed.clear if command == "pause" else resumed.set)()

    class PausableThrottle(Throttle):
        def pause(self, batch_seconds: float, messages: int | None = None) -> float:
            waited = 0.0 if unthrottled.is_set() else super().pause(batch_seconds, messages)
            resumed.wait()
            return waited

    def make_throttle(connection: Connection) -> Throttle:
        resumed.wait()
        settings = current_settings()
        return PausableThrottle(
            connection,
            home=settings.server.home,
            slow_ms=settings.archive.pause_p95_ms,
            pace=settings.archive.messages_per_second,
        )

    flask_app = create_app(load_settings(env_file=None))
    threading.Thread(target=read_commands, daemon=True).start()
    sys.stdout.write(READY)
    sys.stdout.flush()
    with flask_app.app_context():
        report = run(make_throttle=make_throttle)
    sys.stdout.write(orjson.dumps(report).decode() + "\n")


def distribution(durations: list[float]) -> dict[str, Any]:
    """Return the number of chats and percentiles in milliseconds."""
    percentiles = {f"p{share}": round(percentile(durations, share / 100), 1) for share in (50, 95, 99)}
    return {"chats": len(durations), **percentiles}


def measure(server: LiveServer, engine: Engine, chats: Chats, options: argparse.Namespace) -> dict[str, Any]:
    """Alternate windows without and with the archival, then let it finish without chats."""
    archival = Archival(server, engine)
    chats.run(WARM_UP)
    without, during, ratios = list[float](), list[float](), list[float]()
    archived = 0
    for _ in range(options.rounds):
        window_without = chats.run(options.seconds)
        before = archival.messages()
        archival.send("resume")
        window_during = chats.run(options.seconds)
        archival.send("pause")
        archived += archival.messages() - before
        ratios.append(percentile(window_during, 0.95) / percentile(window_without, 0.95))
        without, during = without + window_without, during + window_during
    before, began, cpu = archival.messages(), time.monotonic(), archival.cpu()
    archival.send("unthrottle")
    time.sleep(options.seconds)
    alone, seconds, cpu_after = archival.messages() - before, time.monotonic() - began, archival.cpu()
    report = archival.wait()
    return {
        "chats_ms": {"without": distribution(without), "during": distribution(during)},
        "p95_ratio": round(percentile(during, 0.95) / percentile(without, 0.95), 2),
        "p95_ratio_median_of_rounds": round(sorted(ratios)[len(ratios) // 2], 2),
        "messages_per_second_during_chats": round(archived / (options.rounds * options.seconds)),
        "messages_per_second_alone_unthrottled": round(alone / seconds),
        "cpu_seconds_per_100k_messages": {
            "archival": round((cpu_after[0] - cpu[0]) / alone * 1e5, 2) if alone else None,
            "postgres": round((cpu_after[1] - cpu[1]) / alone * 1e5, 2) if alone else None,
        },
        "report": report,
        "load_average": os.getloadavg(),
    }


def main() -> None:
    """Fill a database, measure, and print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1000, help="number of users, with 1,000 messages each")
    parser.add_argument("--rate", type=float, default=20, help="chats per second")
    parser.add_argument("--seconds", type=float, default=5, help="length of a window")
    parser.add_argument("--rounds", type=int, default=12, help="number of windows of either kind")
    options = parser.parse_args()
    for name in ("DATABASE_URL", "PARLEY_HOME"):
        os.environ.pop(name, None)
    with (
        own_postgres() as (url, _),
        application(load_settings(env_file=None), url) as (flask_app, engine),
        tempfile.TemporaryDirectory(prefix="parley-bench-") as folder,
    ):
        with flask_app.app_context():
            seeded = seed(users=options.users, conversations=10, messages=100)
            with engine.connect() as connection:
                ago = "now() - interval '1 year'"
                connection.execute(text(f"UPDATE conversations SET created_at = {ago}, updated_at = {ago}"))
        with engine.connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("CHECKPOINT"))  # so that the seed's dirty pages are not written during the windows
        server = LiveServer(Path(folder), url, JWT_SECRET_KEY=SECRET, WEB_WORKERS="2")
        try:
            server.start_upstream("words()")
            server.start_web()
            chats = Chats(server, [insert_user(flask_app, engine) for _ in range(CLIENTS)], options.rate)
            results = measure(server, engine, chats, options)
        finally:
            server.close()
    sys.stdout.write(json.dumps({"messages": seeded.messages, **results}, indent=2, default=str) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == [CHILD]:
        run_child()
    else:
        main()
