"""The services of docker-compose.yml without Docker: the same commands, settings and nginx files, on loopback.

What containers would give them is stood in for: names of hosts by addresses, PostgreSQL and Redis by the embedded ones,
the volume by a folder, `.env` by `dotenv`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil
import urllib3

from ops.embedded import ports
from tests.deploy.compose import ROOT, SECRETS, Service, services
from tests.processes import reaped

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
SECONDS = 100  # bound of every wait; only reached by a fault


def until(condition: Callable[[], Any], what: Callable[[], str], seconds: float = SECONDS) -> None:
    """Poll until `condition` holds; for what only another process can tell."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"not seen within {seconds} s: {what()}")


class Stack:
    """`start` and `kill` are by service, `web` with a number: "web 0", "web 1"."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, dotenv: Mapping[str, str]) -> None:
        self.folder = folder
        self.http = urllib3.PoolManager(maxsize=50, retries=False, timeout=SECONDS)
        variables = {
            **SECRETS,
            "DATABASE_URL": database_url,
            "DATABASE_DIRECT_URL": database_url,
            "CELERY_BROKER_URL": broker_url,
        }
        self.services: dict[str, Service] = services(variables)
        self.web_ports = (ports.choose(0), ports.choose(0))
        self.port = ports.choose(0)
        self._dotenv = dict(dotenv)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping: list[subprocess.Popen[bytes]] = []
        (folder / "home").mkdir(parents=True)

    @property
    def url(self) -> str:
        """nginx."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, service: str, number: int = 0) -> dict[str, str]:
        """What the process of this service finds: of this machine only where programs and temporary files are."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        here = {"HOST": "127.0.0.1", "PORT": str(self.web_ports[number]), "PARLEY_HOME": str(self.folder / "home")}
        here["BACKUP_URL"] = self.folder.as_uri()
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**kept, "PATH": path, **self._dotenv, **self.services[service].environment, **here}

    def run(self, service: str, command: list[str] | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command, by default the service's own, to its end."""
        return subprocess.run(
            command or self.services[service].command,
            cwd=ROOT,
            env=self.environment(service) | more,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def start(self, service: str, number: int = 0) -> None:
        name = f"{service} {number}"
        assert name not in self._running
        with self._log(name).open("ab") as log:
            self._running[name] = self._spawn(
                self.services[service].command, log, env=self.environment(service, number)
            )

    def start_nginx(self) -> None:
        with self._log("nginx 0").open("ab") as log:
            self._running["nginx 0"] = self._spawn([*self.nginx_command(), "-g", "daemon off;"], log)

    def nginx_command(self) -> list[str]:
        """nginx on the files in deploy/, written anew with the addresses of this machine."""
        assert NGINX
        folder = self.folder / "nginx"
        folder.mkdir(exist_ok=True)
        frame = _replaced("nginx.conf", {"/tmp/": f"{folder}/", "/dev/stdout": f"{folder}/access.log"})
        first, second = (f"server 127.0.0.1:{port}" for port in self.web_ports)
        limits = "max_fails=0;"
        ours = _replaced(
            "parley.conf.template",
            {
                f"server web:8000 resolve {limits}": f"{first} {limits} {second} {limits}",
                "listen 8080;": f"listen 127.0.0.1:{self.port};",
                "${MAX_BODY_BYTES}": self.services["nginx"].environment["MAX_BODY_BYTES"],
            },
        )
        (folder / "nginx.conf").write_text(frame)
        (folder / "parley.conf").write_text(ours)
        return [NGINX, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]

    def wait_for_web(self, number: int) -> None:
        """Until it says that it is ready."""
        address = f"http://127.0.0.1:{self.web_ports[number]}/health/ready"
        until(lambda: self._is_ok(f"web {number}", address), lambda: self.log(f"web {number}"))

    def _is_ok(self, name: str, address: str) -> bool:
        assert self._running[name].poll() is None, self.log(name)
        try:
            return self.http.request("GET", address, timeout=10).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def log(self, name: str) -> str:
        return self._log(name).read_text()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def kill(self, name: str) -> None:
        """All processes of a container at once, as when it is killed."""
        process = self._running.pop(name)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.suspend()  # else one of them could still answer while the others die
        for member in family:
            member.kill()
        process.wait(SECONDS)

    def ask_to_stop(self, name: str) -> subprocess.Popen[bytes]:
        """SIGTERM; the process may be waited for."""
        process = self._running.pop(name)
        self._stopping.append(process)
        process.send_signal(signal.SIGTERM)
        return process

    def post(self, path: str, body: Any, headers: Mapping[str, str], **options: Any) -> urllib3.BaseHTTPResponse:
        """Through nginx."""
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
        with reaped(*self._stopping):  # where a test failed, and did not wait for them
            self.http.clear()


def _replaced(name: str, changes: Mapping[str, str]) -> str:
    text = (ROOT / "deploy" / "nginx" / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} says {old!r} no more"
        text = text.replace(old, new)
    return text
