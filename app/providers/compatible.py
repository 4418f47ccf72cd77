"""Any server with OpenAI's chat completions API: Ollama, vLLM, llama.cpp, LM Studio, a gateway."""

from app.providers.chat_completions import ChatCompletions
from app.providers.configured import DEFAULT_MODELS


class CompatibleProvider(ChatCompletions):
    """The provider `compatible`."""

    name = "compatible"
    default_model = DEFAULT_MODELS["compatible"]
    # vLLM and llama.cpp count a stream's tokens only on request; Mistral (422) and Databricks (400) reject the option.
    stream_options_optional = True
