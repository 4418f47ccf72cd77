"""A process that erases the account of its argument, a conversation at a time, and long ones in small steps."""

import sys
from uuid import UUID

from app.config import load_settings
from app.factory import create_app
from app.services import removal
from ops.accounts import removing
from ops.accounts.erasure import erase
from ops.actors import Actor


def main() -> None:
    removal.STEP = 10
    removing._BATCH = 1
    flask_app = create_app(load_settings(env_file=None))
    with flask_app.app_context():
        erase(user_id=UUID(sys.argv[1]), by=Actor(kind="command", name="eraser@here"), reason="asked for it")


if __name__ == "__main__":
    main()
