"""OpenRouter: many models behind one key.

Its comment lines (": OPENROUTER PROCESSING") and its error objects inside a 200 are handled for all providers.
"""

from typing import ClassVar

from app.providers.chat_completions import ChatCompletions
from app.providers.configured import DEFAULT_MODELS


class OpenRouterProvider(ChatCompletions):
    """The provider `openrouter`."""

    name = "openrouter"
    default_model = DEFAULT_MODELS["openrouter"]
    ping_path = "key"  # its list of models needs no key
    # OpenRouter attributes traffic to an application by these. Parley has no public address to name.
    headers: ClassVar[dict[str, str]] = {"HTTP-Referer": "http://localhost", "X-Title": "Parley"}
