"""A real Alertmanager that sends its notifications to the test."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.processes import reaped


class Notifications:
    """The alerts that Alertmanager has sent, with status, labels and annotations, by receiver."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def names(self, receiver: str, status: str = "firing") -> set[str]:
        """Return the names of the alerts that were sent to `receiver` with this status."""
        return {
            alert["labels"]["alertname"]
            for to, alert in list(self.sent)
            if to == receiver and alert["status"] == status
        }

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return what was sent about the alert with this name."""
        return [alert for _, alert in list(self.sent) if alert["labels"]["alertname"] == name]


@contextmanager
def running_alertmanager(command: list[str], folder: Path) -> Iterator[Notifications]:
    """Run `command` with the configuration in `folder`, changed to short times and to receivers in this process."""
    notifications = Notifications()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            notifications.sent += [(body["receiver"], alert) for alert in body["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, name="receiver", daemon=True).start()
        path = folder / "alertmanager.yml"
        configuration = yaml.safe_load(path.read_text())
        configuration["route"].update(group_wait="1s", group_interval="1s")
        for receiver in configuration["receivers"]:
            for webhook in receiver["webhook_configs"]:
                webhook["url"] = f"http://127.0.0.1:{server.server_port}"
        path.write_text(yaml.safe_dump(configuration))
        with (folder / "alertmanager.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        with reaped(process):
            yield notifications
        server.shutdown()
