"""The fixtures of the API's tests: a scripted provider, applications that use it, and requests to them."""

from tests.api.conftest import _plain_script, chat, chat_app, make_chat_app, rows, upstream

__all__ = ["_plain_script", "chat", "chat_app", "make_chat_app", "rows", "upstream"]
