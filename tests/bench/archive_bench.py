"""What the archival costs: messages it moves in a second, and how much longer chats take while it does.

    python -m tests.bench.archive_bench [--users 1000] [--rate 20] [--seconds 5] [--rounds 12]

A database of its own with 1,000 messages for each of `users`, all idle for long and searchable; gunicorn with two
workers and a provider that answers at once; eight clients that chat in conversations of their own at a steady rate. One
archival, as `flask ops archive run` does it, is let go and held up in turns: windows with it and without it alternate,
so that whatever else the machine does falls on both. At the end it goes on without chats.
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
from app.factory import create_app
from app.services.container import services
from app.services.search import index_stale
from ops.archive.load import Load
from ops.archive.run import run
from ops.seed import seed
from tests.factories import Account, make_account
from tests.faults.rig import PROJECT, SECRET, Rig, application, own_postgres

CLIENTS = 8
CHILD = "archival"  # the argument that makes this module the process that archives


class Chats:
    """Eight clients, each in a conversation of its own, together at `rate` turns a second."""

    def __init__(self, rig: Rig, accounts: list[Account], rate: float) -> None:
        self._rig, self._accounts, self._rate = rig, accounts, rate
        self._conversations: dict[int, str] = {}

    def during(self, seconds: float) -> list[float]:
        """Milliseconds that each chat took, for so long."""
        took: list[float] = []
        end = time.monotonic() + seconds
        clients = [threading.Thread(target=self._client, args=(number, end, took)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return took

    def _client(self, number: int, end: float, took: list[float]) -> None:
        due = time.monotonic() + number / self._rate
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due += CLIENTS / self._rate
            body: dict[str, Any] = {"message": "How warm should it be?"}
            if number in self._conversations:
                body["conversation_id"] = self._conversations[number]
            begun = time.perf_counter()
            answer = self._rig.http.request(
                "POST",
                f"{self._rig.url}/api/chat",
                body=orjson.dumps(body),
                headers={**self._accounts[number].headers, "Content-Type": "application/json"},
            )
            took.append((time.perf_counter() - begun) * 1000)
            if answer.status != 200:
                raise AssertionError(f"{answer.status} {answer.data!r}")
            self._conversations[number] = answer.json()["conversation"]["id"]


class Archival:
    """A process that archives while it is let."""

    def __init__(self, rig: Rig, engine: Engine) -> None:
        self._engine = engine
        command = [sys.executable, "-m", __spec__.name, CHILD]
        self._process = subprocess.Popen(
            command, cwd=PROJECT, env=rig.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        assert self._out.readline() == "there\n"

    def say(self, word: str) -> None:
        """go, stop, or rush: without rests."""
        self._in.write(f"{word}\n")
        self._in.flush()

    def end(self) -> dict[str, Any]:
        """Wait until everything is archived; the report of the run."""
        report: dict[str, Any] = json.loads(self._out.readline())
        self._in.close()
        self._process.wait()
        return report

    def moved(self) -> int:
        """Messages so far."""
        with self._engine.connect() as connection:
            return int(connection.execute(text("SELECT coalesce(sum(messages), 0) FROM archive_runs")).scalar_one())

    def cpu(self) -> tuple[float, float]:
        """Seconds that the process and its backends have used."""
        process = psutil.Process(self._process.pid)
        ports = [connection.laddr.port for connection in process.net_connections(kind="tcp")]
        with self._engine.connect() as connection:
            found = connection.execute(
                text("SELECT pid FROM pg_stat_activity WHERE client_port = ANY (:ports)"), {"ports": ports}
            )
            backends = [psutil.Process(row.pid) for row in found]
        return used(process), sum(map(used, backends))


def used(process: psutil.Process) -> float:
    """CPU seconds of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def archive_while_let() -> None:
    """The child: reads words from standard input, and prints the report."""
    may_go, rush = threading.Event(), threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            word = line.strip()
            (may_go.clear if word == "stop" else may_go.set)()
            if word == "rush":
                rush.set()

    class Gated(Load):
        def rest(self, took: float) -> float:
            waited = 0.0 if rush.is_set() else super().rest(took)
            may_go.wait()
            return waited

    def make_load(connection: Connection) -> Load:
        may_go.wait()
        settings = services().settings
        return Gated(
            connection, home=settings.server.home, slow_ms=settings.archive.slow_ms, pace=settings.archive.pace
        )

    flask_app = create_app(load_settings(env_file=None))
    threading.Thread(target=listen, daemon=True).start()
    sys.stdout.write("there\n")
    sys.stdout.flush()
    with flask_app.app_context():
        report = run(make_load=make_load)
    sys.stdout.write(orjson.dumps(report).decode() + "\n")


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them stays below."""
    return sorted(values)[max(0, round(len(values) * share) - 1)]


def shown(took: list[float]) -> dict[str, Any]:
    """A distribution in milliseconds."""
    return {"chats": len(took), **{f"p{share}": round(percentile(took, share / 100), 1) for share in (50, 95, 99)}}


def measure(rig: Rig, engine: Engine, chats: Chats, arguments: argparse.Namespace) -> dict[str, Any]:
    """The windows in turns, and the rest of the archival without chats."""
    archival = Archival(rig, engine)
    chats.during(5)  # warm
    without, during, ratios = list[float](), list[float](), list[float]()
    moved = 0
    for _ in range(arguments.rounds):
        off = chats.during(arguments.seconds)
        before = archival.moved()
        archival.say("go")
        on = chats.during(arguments.seconds)
        archival.say("stop")
        moved += archival.moved() - before
        ratios.append(percentile(on, 0.95) / percentile(off, 0.95))
        without, during = without + off, during + on
    before, begun, cpu = archival.moved(), time.monotonic(), archival.cpu()
    archival.say("rush")
    time.sleep(arguments.seconds)
    alone, seconds, cpu_after = archival.moved() - before, time.monotonic() - begun, archival.cpu()
    report = archival.end()
    return {
        "chats_ms": {"without": shown(without), "during": shown(during)},
        "p95_ratio": round(percentile(during, 0.95) / percentile(without, 0.95), 2),
        "p95_ratio_median_of_rounds": round(sorted(ratios)[len(ratios) // 2], 2),
        "messages_per_second_beside_chats": round(moved / (arguments.rounds * arguments.seconds)),
        "messages_per_second_alone_without_rests": round(alone / seconds),
        "cpu_seconds_per_100k_messages": {
            "archival": round((cpu_after[0] - cpu[0]) / alone * 1e5, 2) if alone else None,
            "postgres": round((cpu_after[1] - cpu[1]) / alone * 1e5, 2) if alone else None,
        },
        "report": report,
        "load_average": os.getloadavg(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1000, help="with 1,000 messages each")
    parser.add_argument("--rate", type=float, default=20, help="chats a second")
    parser.add_argument("--seconds", type=float, default=5, help="of a window")
    parser.add_argument("--rounds", type=int, default=12, help="windows of either kind")
    arguments = parser.parse_args()
    for name in ("DATABASE_URL", "PARLEY_HOME"):
        os.environ.pop(name, None)
    with (
        own_postgres() as (url, _),
        application(load_settings(env_file=None), url) as (flask_app, engine),
        tempfile.TemporaryDirectory(prefix="parley-bench-") as folder,
    ):
        with flask_app.app_context():
            seeded = seed(users=arguments.users, conversations=10, messages=100)
            with engine.connect() as connection:
                ago = "now() - interval '1 year'"
                connection.execute(text(f"UPDATE conversations SET created_at = {ago}, updated_at = {ago}"))
            begun = time.monotonic()
            documents = index_stale(limit=10**9, seconds=3600).written
            documents_seconds = time.monotonic() - begun
        with engine.connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("CHECKPOINT"))  # what seeding has left to write is not the archival's doing
        rig = Rig(Path(folder), url, JWT_SECRET_KEY=SECRET, WEB_WORKERS="2")
        try:
            rig.start_upstream("words()")
            rig.start_web()
            chats = Chats(rig, [make_account(flask_app, engine) for _ in range(CLIENTS)], arguments.rate)
            found = measure(rig, engine, chats, arguments)
        finally:
            rig.stop()
    about = {"messages": seeded.messages, "search_documents_per_second": round(documents / documents_seconds)}
    sys.stdout.write(json.dumps({**about, **found}, indent=2, default=str) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == [CHILD]:
        archive_while_let()
    else:
        main()
