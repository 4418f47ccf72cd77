"""A process that erases the user with the id in its argument, in small steps with pauses, so that it can be killed."""

import sys
import time
from typing import Any
from uuid import UUID

from app.config import load_settings
from app.factory import create_app
from app.services import conversation_deletion
from ops.runs.actors import Actor
from ops.users import erasure_steps
from ops.users.erasure import erase

PAUSE = 0.05  # seconds, before each batch


def main() -> None:
    conversation_deletion.STEP = 10
    erasure_steps._BATCH = 1
    erase_batch = erasure_steps._erase_batch

    def erase_slowly(*arguments: Any) -> Any:
        time.sleep(PAUSE)
        return erase_batch(*arguments)

    erasure_steps._erase_batch = erase_slowly
    flask_app = create_app(load_settings(env_file=None))
    with flask_app.app_context():
        erase(user_id=UUID(sys.argv[1]), by=Actor(kind="command", name="eraser@here"), reason="asked for it")


if __name__ == "__main__":
    main()
