"""The services of docker-compose.yml without Docker: the same commands, settings and nginx files, on loopback.

Host names are replaced by addresses, PostgreSQL and Redis by the embedded servers, the volume by a folder, and `.env`
by `dotenv`.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil
import urllib3

from ops.embedded import ports
from tests.deploy.compose import ROOT, SECRETS, Service, services
from tests.processes import reaped
from tests.waiting import wait_until

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
MAX_WAIT_SECONDS = 100  # reached only when something is broken


class Stack:
    """The running services. A process is named by service and number: "web 0", "web 1", "worker 0"."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, dotenv: Mapping[str, str]) -> None:
        self.folder = folder
        self.http = urllib3.PoolManager(maxsize=50, retries=False, timeout=MAX_WAIT_SECONDS)
        variables = {
            **SECRETS,
            "DATABASE_URL": database_url,
            "DATABASE_DIRECT_URL": database_url,
            "CELERY_BROKER_URL": broker_url,
        }
        self.services: dict[str, Service] = services(variables)
        self.web_ports = (ports.choose_port(0), ports.choose_port(0))
        self.port = ports.choose_port(0)
        self._dotenv = dict(dotenv)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping: list[subprocess.Popen[bytes]] = []
        (folder / "home").mkdir(parents=True)

    @property
    def url(self) -> str:
        """The base URL of nginx."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, service: str, number: int = 0) -> dict[str, str]:
        """Return the environment of a service: from this machine only HOME, LANG, TMPDIR and PATH."""
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        local = {"HOST": "127.0.0.1", "PORT": str(self.web_ports[number]), "PARLEY_HOME": str(self.folder / "home")}
        local["BACKUP_URL"] = self.folder.as_uri()
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**inherited, "PATH": path, **self._dotenv, **self.services[service].environment, **local}

    def run(self, service: str, command: list[str] | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in the environment of a service; by default the service's command."""
        return subprocess.run(
            command or self.services[service].command,
            cwd=ROOT,
            env=self.environment(service) | more,
            capture_output=True,
            text=True,
            timeout=MAX_WAIT_SECONDS,
            check=False,
        )

    def start(self, service: str, number: int = 0) -> None:
        """Start a service."""
        name = f"{service} {number}"
        assert name not in self._running
        with self._log_path(name).open("ab") as log:
            self._running[name] = self._spawn(
                self.services[service].command, log, env=self.environment(service, number)
            )

    def start_nginx(self) -> None:
        """Start nginx in the foreground."""
        with self._log_path("nginx 0").open("ab") as log:
            self._running["nginx 0"] = self._spawn([*self.nginx_command(), "-g", "daemon off;"], log)

    def nginx_command(self) -> list[str]:
        """Return the command of nginx on copies of the files in deploy/ with the addresses of this machine."""
        assert NGINX
        folder = self.folder / "nginx"
        folder.mkdir(exist_ok=True)
        main = _replaced("nginx.conf", {"/tmp/": f"{folder}/", "/dev/stdout": f"{folder}/access.log"})
        first, second = (f"server 127.0.0.1:{port}" for port in self.web_ports)
        limits = "max_fails=0;"
        server = _replaced(
            "parley.conf.template",
            {
                f"server web:8000 resolve {limits}": f"{first} {limits} {second} {limits}",
                "listen 8080;": f"listen 127.0.0.1:{self.port};",
                "${MAX_BODY_BYTES}": self.services["nginx"].environment["MAX_BODY_BYTES"],
            },
        )
        (folder / "nginx.conf").write_text(main)
        (folder / "parley.conf").write_text(server)
        return [NGINX, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]

    def wait_for_web(self, number: int) -> None:
        """Wait until /health/ready of a web server returns 200."""
        address = f"http://127.0.0.1:{self.web_ports[number]}/health/ready"
        wait_until(lambda: self._is_ok(f"web {number}", address), lambda: self.log(f"web {number}"))

    def _is_ok(self, name: str, address: str) -> bool:
        assert self._running[name].poll() is None, self.log(name)
        try:
            return self.http.request("GET", address, timeout=10).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def log(self, name: str) -> str:
        """Return what a process has logged."""
        return self._log_path(name).read_text()

    def _log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def kill(self, name: str) -> None:
        """Kill all processes of a service at once, as Docker kills a container."""
        process = self._running.pop(name)
        processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in processes:
            member.suspend()  # so that none responds while the others are being killed
        for member in processes:
            member.kill()
        process.wait(MAX_WAIT_SECONDS)

    def terminate(self, name: str) -> subprocess.Popen[bytes]:
        """Send SIGTERM and return the process."""
        process = self._running.pop(name)
        self._stopping.append(process)
        process.send_signal(signal.SIGTERM)
        return process

    def post(self, path: str, body: Any, headers: Mapping[str, str], **options: Any) -> urllib3.BaseHTTPResponse:
        """Send `body` as JSON to nginx."""
        return self.http.request("POST", self.url + path, json=body, headers=dict(headers), **options)

    def _spawn(self, command: list[str], log: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._running):
            if self._running[name].poll() is None:
                self.kill(name)
        with reaped(*self._stopping):  # a failed test has not waited for them
            self.http.clear()


def _replaced(name: str, changes: Mapping[str, str]) -> str:
    text = (ROOT / "deploy" / "nginx" / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} does not contain {old!r}"
        text = text.replace(old, new)
    return text
