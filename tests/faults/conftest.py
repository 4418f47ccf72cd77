"""The scripted provider and the ways to talk to it are those of the API's tests."""

from tests.api.conftest import _plain_script, chat, chat_app, make_chat_app, rows, upstream

__all__ = ["_plain_script", "chat", "chat_app", "make_chat_app", "rows", "upstream"]
