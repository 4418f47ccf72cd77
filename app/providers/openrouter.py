"""OpenRouter: many models behind one key.

Its comment lines (": OPENROUTER PROCESSING") and its error objects inside a 200 are handled for all providers.
"""

from typing import ClassVar

from app.providers.chat_completions import ChatCompletions


class OpenRouterProvider(ChatCompletions):
    name = "openrouter"
    default_model = "openrouter/auto"
    asks_first = "key"  # its list of models is everybody's
    # How OpenRouter attributes traffic to an application. Parley has no public address, so it gives none away either.
    headers: ClassVar[dict[str, str]] = {"HTTP-Referer": "http://localhost", "X-Title": "Parley"}
