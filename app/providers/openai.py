"""OpenAI itself."""

from app.providers.chat_completions import ChatCompletions

BASE_URL = "https://api.openai.com/v1"


class OpenAIProvider(ChatCompletions):
    name = "openai"
    default_model = "gpt-5.4-mini"
    max_tokens = "max_completion_tokens"  # its newer models refuse the older name
