"""Whoever answers: whether the AI provider is there and takes our key. Nothing that costs is asked."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from app.errors import ProviderError, ProviderMisconfigured, ProviderOverloaded
from app.providers.base import Provider
from app.services.container import services
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

SECONDS = 3.0  # for each; they are asked at the same time


def reachable(probe: Probe) -> Iterator[Finding]:
    """A finding for each that cannot be had: who answers where nobody chooses, and those that stand in for it."""
    registry, choices = services().providers, services().choices
    chosen = registry.get(choices.current().name)
    asked = [chosen, *(registry.get(name) for name in probe.settings.provider.fallback if name != chosen.name)]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(_ping, asked))
    for provider, error in zip(asked, answers, strict=True):
        if error is None:
            continue
        first = provider is chosen
        passing = isinstance(error, ProviderOverloaded)
        stands_in = first and any(answers[index] is None for index in range(1, len(asked)))
        yield Finding(
            level=Level.CRITICAL if first and not stands_in and not passing else Level.WARNING,
            what=error.detail,
            evidence={"provider": provider.name, "default": first, "a_fallback_answers": stands_in},
            remedy=f"Check the key and base URL of {provider.name} in the settings"
            if isinstance(error, ProviderMisconfigured)
            else f"See that {provider.name} runs and can be reached from here; AI_FALLBACK names who stands in",
        )


def _ping(provider: Provider) -> ProviderError | None:
    try:
        provider.ping(SECONDS)
    except ProviderError as error:
        return error
    return None
