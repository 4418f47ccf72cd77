"""Installation of the MCP clients and the conformance suite in `build/mcp`: `python -m tests.mcp.install`.

They are Node.js 24 with npm packages, and the Python package `mcp`.
"""

from pathlib import Path

from tests.peers import Peers

SOURCE = Path(__file__).parent
PEERS = Peers(SOURCE, SOURCE.parents[1] / "build" / "mcp")

if __name__ == "__main__":
    PEERS.install()
