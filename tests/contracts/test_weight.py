"""The imports of a web worker: each worker has its own copy of them in memory."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# No request needs these. Alembic takes 12 MB; the openai package 16 MB and one second of each start.
UNNEEDED = ["alembic", "flask_migrate", "openai", "httpx2", "moto", "boto3"]


def test_web_worker_does_not_import_unneeded_packages() -> None:
    code = f"import sys, wsgi; print([name for name in {UNNEEDED!r} if name in sys.modules])"
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=environment
        | {
            "DATABASE_URL": "postgresql://offline/none",
            "JWT_SECRET_KEY": "offline-offline-offline-offline-offline",
            "OPENAI_API_KEY": "sk-offline",
            "OPENROUTER_API_KEY": "sk-offline",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"
