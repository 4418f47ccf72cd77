"""A real Prometheus that scrapes a running server at short intervals."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.processes import reaped
from tests.waiting import wait_until


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        data: list[dict[str, Any]] = self._get("/api/v1/query", query=expression)["result"]
        return data

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as response:
            data: dict[str, Any] = json.load(response)["data"]
            return data


@contextmanager
def running_prometheus(command: list[str], folder: Path, port: int, *, seconds: float = 1) -> Iterator[Prometheus]:
    """Run `command` with the configuration in `folder`, changed to short intervals; a scrape may take `seconds`."""
    path = folder / "prometheus.yml"
    configuration = yaml.safe_load(path.read_text())
    configuration["global"] = {
        "scrape_interval": f"{seconds * 1000:.0f}ms",
        "scrape_timeout": f"{seconds * 1000:.0f}ms",
        "evaluation_interval": f"{min(seconds, 1) * 1000:.0f}ms",
    }
    path.write_text(yaml.safe_dump(configuration))
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with reaped(process):
        prometheus = Prometheus(port)
        wait_until(prometheus.is_ready)
        yield prometheus
