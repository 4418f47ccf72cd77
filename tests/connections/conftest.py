"""The fixtures of these tests: a scripted provider, and applications that use it."""

from tests.api.conftest import _plain_script, make_chat_app, upstream

__all__ = ["_plain_script", "make_chat_app", "upstream"]
