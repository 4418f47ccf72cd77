"""Any server that speaks OpenAI's chat completions: Ollama, vLLM, llama.cpp, LM Studio, a gateway."""

from app.providers.chat_completions import ChatCompletions


class CompatibleProvider(ChatCompletions):
    name = "compatible"
    default_model = "default"  # servers of a single model take any name
    # vLLM and llama.cpp count a stream's tokens only if asked; Mistral (422) and Databricks (400) refuse to hear it.
    usage_is_optional = True
