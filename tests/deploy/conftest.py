"""One stack for all tests of the deployment, because it starts slowly."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from urllib3 import Retry

from ops import embedded
from tests.database import fresh_database
from tests.deploy.stack import NGINX, Stack
from tests.fakes.upstream import Upstream


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Create a folder that every user may enter: the embedded servers and nginx's workers do not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="parley-deploy-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def deployed_url(postgres: str, testrun_uid: str, worker_id: str) -> Iterator[str]:
    """Create an empty database, which the stack migrates."""
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_deploy") as url:
        yield url


@pytest.fixture(scope="session")
def broker_url(folder: Path) -> Iterator[str]:
    with embedded.lease_redis(folder / "redis", durable=False) as lease:
        yield lease.url


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """Start the provider of the stack; each test sets its script."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def stack(folder: Path, deployed_url: str, broker_url: str, upstream: Upstream) -> Iterator[Stack]:
    """Start all services in the order and under the conditions of docker-compose.yml."""
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    dotenv = {
        "AI_PROVIDER": "compatible",
        "OPENAI_BASE_URL": upstream.base_url,
        "WEB_WORKERS": "1",
        "WORKER_CONCURRENCY": "1",
    }
    with Stack(folder, deployed_url, broker_url, dotenv) as stack:
        migrated = stack.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        for number in (0, 1):
            stack.start("web", number)
        stack.start("worker")
        stack.start("beat")
        for number in (0, 1):
            stack.wait_for_web(number)
        stack.start_nginx()
        stack.http.request("GET", f"{stack.url}/health", retries=_until_nginx_accepts())
        yield stack


def _until_nginx_accepts() -> Retry:
    return Retry(total=20, backoff_factor=0.1)
