"""Processes that share their metrics, started by a test."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.metrics import multiprocess
from tests.metrics.scrape import Scrape, parse

ROOT = Path(__file__).parents[2]


class SharingProcess:
    """One process of tests/metrics/sharing_process.py."""

    def __init__(self, home: Path, **environment: str) -> None:
        plain = {name: value for name, value in os.environ.items() if name != multiprocess.VARIABLE}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.metrics.sharing_process", str(home)],
            cwd=ROOT,
            env={**plain, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, command: str) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def scrape(self) -> Scrape:
        return parse(self.send("render"))

    def end(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.wait(30)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


def completed_turns(scrape: Scrape) -> float:
    return scrape.value("turns_total", status="completed")
