"""The web application with tools that must not be repeated: `note` adds a line to the file NOTES.

So does `send`, which needs approval. Each then waits until the file NOTES.release exists, and returns.
"""

import os
import time
from pathlib import Path
from typing import Any

from app.container import services
from app.tools.tool import ToolContext, ToolError, ToolResult
from ops.server.composition import create_web_app, load_process_settings
from tests.tools.fixed import FixedTools, make_tool

_NOTES = Path(os.environ["NOTES"])


def _note(context: ToolContext, arguments: Any) -> ToolResult:
    with _NOTES.open("a") as notes:
        notes.write(f"{arguments['text']} {context.call_key}\n")
    while not _NOTES.with_suffix(".release").exists():
        if context.cancel_token.cancelled or time.monotonic() >= context.until:
            raise ToolError("The note was not finished.", uncertain=True)
        time.sleep(0.02)
    return ToolResult(f"noted {arguments['text']}")


flask_app = create_web_app(load_process_settings(), ())
with flask_app.app_context():
    note = make_tool("note", _note, repeatable=False)
    send = make_tool("send", _note, repeatable=False, needs_approval=True)
    services().tools.add(FixedTools(note, send))
