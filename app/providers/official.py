"""The same question, asked through OpenAI's own package: a second opinion where ours comes back with a problem.

It says whether the provider or Parley is at fault. Turns do not go this way; docs/adr/0006-providers-over-urllib3.md
says why.
"""

from app.errors import ProviderError


def second_opinion(*, base_url: str, api_key: str, model: str, question: str, seconds: float) -> str:
    """What the package said in return. Raises `ProviderError` with what it complains of, which holds no key."""
    import openai  # 16 MB and a second: nobody needs it until something is wrong

    try:
        # The empty strings keep the package from filling the gaps from the environment.
        with openai.OpenAI(
            api_key=api_key or "none",
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            base_url=base_url,
            timeout=seconds,
            max_retries=0,
        ) as client:
            answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
            return answer.choices[0].message.content or ""
    except openai.APIStatusError as error:
        raise ProviderError(f"HTTP {error.status_code}") from None
    except openai.APITimeoutError:
        raise ProviderError(f"no answer within {seconds:g} seconds") from None
    except (openai.OpenAIError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise ProviderError(type(error).__name__) from None
