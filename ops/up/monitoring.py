"""Start Prometheus and Alertmanager on the running `make up`, until Ctrl-C.

    python -m ops.up.monitoring

Both programs come from the system; their data is in PARLEY_HOME/monitoring. The exit code is 0 after Ctrl-C, and 1 with
one line on standard error if something is missing.
"""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from app.config import Settings, load_settings
from app.errors import ParleyError, SettingsError
from ops.up.address import Address, running_url
from ops.up.processes import ProcessManager, use_fork

FILES = Path(__file__).resolve().parents[2] / "dashboards"
PROMETHEUS_PORT, ALERTMANAGER_PORT = 9090, 9093
HOST = "127.0.0.1"
INSTALL = "install Debian's packages prometheus and prometheus-alertmanager, or put both programs on the PATH"
PROGRAMS = {"prometheus": ("prometheus",), "alertmanager": ("prometheus-alertmanager", "alertmanager")}


def main() -> int:
    """Run and return the exit code."""
    use_fork()
    try:
        commands = prepare(load_settings())
    except ParleyError as error:
        sys.stderr.write(f"parley: {error.detail}\n")
        return 1
    processes = ProcessManager()
    for name, command in commands.items():
        processes.add_process(name, f"exec {shlex.join(command)}", env=dict(os.environ))
    sys.stdout.write(
        f"Prometheus: http://{HOST}:{PROMETHEUS_PORT}/alerts   Alertmanager: http://{HOST}:{ALERTMANAGER_PORT}\n"
    )
    sys.stdout.flush()
    return 1 if processes.run(lambda: None) else 0


def prepare(
    settings: Settings, *, prometheus_port: int = PROMETHEUS_PORT, alertmanager_port: int = ALERTMANAGER_PORT
) -> dict[str, list[str]]:
    """Write the configuration, and return the command of each program.

    Raises `SettingsError` if no `make up` runs with this home, a program is missing, or a port is used.
    """
    home = settings.server.home.absolute()
    url = running_url(home)
    if url is None:
        raise SettingsError(f"no `make up` runs with PARLEY_HOME={home}: start it first, in another terminal")
    programs = {name: _find(names) for name, names in PROGRAMS.items()}
    for port in (prometheus_port, alertmanager_port):
        Address(HOST, port).check_free()
    folder = home / "monitoring"
    for path in (folder, folder / "prometheus", folder / "alertmanager"):
        path.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(FILES / "prometheus" / "rules.yml", folder / "rules.yml")
    shutil.copy(FILES / "alertmanager" / "alertmanager.yml", folder / "alertmanager.yml")
    token = settings.server.ops_token
    configuration = _configuration(url, folder, alertmanager_port, token.get_secret_value() if token else None)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    return {
        "prometheus": [
            programs["prometheus"],
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={HOST}:{prometheus_port}",
            "--log.level=warn",
        ],
        "alertmanager": [
            programs["alertmanager"],
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={HOST}:{alertmanager_port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
    }


def _configuration(url: str, folder: Path, alertmanager_port: int, token: str | None) -> dict[str, Any]:
    """Return the configuration of docker-compose.yml, changed to this machine's addresses."""
    configuration: dict[str, Any] = yaml.safe_load((FILES / "prometheus" / "prometheus.yml").read_text())
    configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"{HOST}:{alertmanager_port}"]}]}]
    [scrape] = [job for job in configuration["scrape_configs"] if job["job_name"] == "parley"]
    scrape["static_configs"] = [{"targets": [urlsplit(url).netloc]}]
    del scrape["authorization"]
    if token is not None:
        credentials = folder / "ops_token"
        credentials.touch(mode=0o600)
        credentials.write_text(token)
        scrape["authorization"] = {"credentials_file": str(credentials)}
    configuration["scrape_configs"] = [scrape]
    return configuration


def _find(names: tuple[str, ...]) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise SettingsError(f"{names[0]} is missing: {INSTALL}")


if __name__ == "__main__":
    sys.exit(main())
