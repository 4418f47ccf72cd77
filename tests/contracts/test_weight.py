"""What a web worker carries: each holds its own copy of all that it imports."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# A worker needs none of these to serve: Alembic takes 12 MB, the openai package 16 MB and a second of each start.
NEEDLESS = ["alembic", "flask_migrate", "openai", "httpx2", "moto", "boto3"]


def test_a_web_worker_imports_nothing_that_it_does_not_use() -> None:
    look = f"import sys, wsgi; print([name for name in {NEEDLESS!r} if name in sys.modules])"
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", look],
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
