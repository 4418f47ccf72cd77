"""One run of provider_files.sync in a process of its own, for tests that kill it."""

import sys

from app.config import load_settings
from app.core import create_core_app
from ops.maintenance.provider_files import sync_provider_files

if __name__ == "__main__":
    with create_core_app(load_settings(env_file=None)).app_context():
        sys.exit(0 if sync_provider_files().uploaded else 1)
