"""OpenAI."""

from app.providers import official
from app.providers.chat_completions import ChatCompletions
from app.providers.configured import DEFAULT_MODELS
from app.providers.failures import ErrorTranslator
from app.providers.listing import LIST_SECONDS, valid_names


class OpenAIProvider(ChatCompletions):
    """The provider `openai`."""

    name = "openai"
    default_model = DEFAULT_MODELS["openai"]
    max_tokens = "max_completion_tokens"  # its newer models reject the older name

    def models(self) -> list[str]:
        """Return the models of the key, as OpenAI's own package lists them. Raises `ProviderError`."""
        errors = ErrorTranslator(self.name, "", self._key, ())
        return valid_names(
            official.list_models(base_url=self._base_url, api_key=self._key, seconds=LIST_SECONDS, errors=errors)
        )
