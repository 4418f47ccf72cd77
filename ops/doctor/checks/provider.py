"""The AI providers: reachable, and with a valid key. The request costs nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from app.container import services
from app.errors import ProviderError, ProviderMisconfigured, ProviderOverloaded
from app.providers.base import Provider
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level

SECONDS = 3.0  # for each provider; all are requested at the same time


@check("provider.reachable", "Is the AI provider reachable, and does it accept the key?", severity=Level.CRITICAL)
def reachable(context: CheckContext) -> Iterator[Finding]:
    """Check the default provider and its fallbacks."""
    registry, choices = services().providers, services().choices
    default = registry.get(choices.current().name)
    providers = [default, *(registry.get(name) for name in context.settings.provider.fallback if name != default.name)]
    with ThreadPoolExecutor(len(providers)) as pool:
        errors = list(pool.map(_ping, providers))
    has_fallback = any(error is None for error in errors[1:])
    for provider, error in zip(providers, errors, strict=True):
        if error is None:
            continue
        is_default = provider is default
        is_transient = isinstance(error, ProviderOverloaded)
        yield Finding(
            level=Level.CRITICAL if is_default and not has_fallback and not is_transient else Level.WARNING,
            message=error.full_detail,
            object=provider.name,
            evidence={
                "provider": provider.name,
                "default": is_default,
                "fallback_reachable": is_default and has_fallback,
            },
            remedy=f"Are the key and the base URL of {provider.name} in the settings right?"
            if isinstance(error, ProviderMisconfigured)
            else f"Does {provider.name} run, and is it reachable from this host? AI_FALLBACK names replacements",
        )


def _ping(provider: Provider) -> ProviderError | None:
    try:
        provider.ping(SECONDS)
    except ProviderError as error:
        return error
    return None
