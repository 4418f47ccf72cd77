"""A real web server: gunicorn as it is run for people, on a port of its own."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import urllib3

from tests.limits import NO_LIMITS

ROOT = Path(__file__).parents[2]


class WebServer:
    """Runs until the block ends; `settings` are environment variables. `stop` asks it to end and returns its code."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.http = urllib3.PoolManager(maxsize=50, retries=False, timeout=60)
        self._port = _free_port()
        self._log = (home / "web.log").open("w+")
        known = {
            name: value
            for name, value in os.environ.items()
            if not re.match("AI_|OPENAI_|CHAT_|DB_|WEB_|RATE_|LOGIN_", name)
        }
        self.environment = {
            **known,
            "PORT": str(self._port),
            "PARLEY_HOME": str(home),
            "JWT_SECRET_KEY": "a-secret-for-tests-only-0123456789abcdef",
            **NO_LIMITS,
            **settings,
        }
        self.process: subprocess.Popen[bytes] = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "ops/gunicorn_conf.py", "wsgi:flask_app"],
            cwd=ROOT,
            env=self.environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Until `/health` answers 200."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            try:
                if self.http.request("GET", f"{self.url}/health", timeout=5).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            select.select([], [], [], 0.1)
        raise AssertionError(f"not ready within {seconds} s:\n{self.log()}")

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        return psutil.Process(self.process.pid).children()

    def post(self, path: str, body: Any, headers: dict[str, str], **options: Any) -> urllib3.BaseHTTPResponse:
        return self.http.request("POST", self.url + path, json=body, headers=headers, **options)

    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text()

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM, and wait for the end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        self.wait_until_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self.http.clear()
        self._log.close()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
