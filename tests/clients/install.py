"""Installation of Node.js 22 and the locked npm packages in `build/clients`: `python -m tests.clients.install`."""

from pathlib import Path

from tests.peers import Peers

SOURCE = Path(__file__).parent
PEERS = Peers(SOURCE, SOURCE.parents[1] / "build" / "clients")
FOLDER, environment, is_installed = PEERS.folder, PEERS.environment, PEERS.is_installed

if __name__ == "__main__":
    PEERS.install()
