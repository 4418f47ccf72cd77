"""The choice of the default provider at run time."""

from dataclasses import dataclass

from app.bounds import MODEL_LIMIT
from app.container import current_settings, provider_services
from app.errors import Conflict, InvalidInput, NotFound
from app.providers.configured import missing_setting
from app.services.provider_choice import KEY, ProviderChoice, default_model
from ops.providers.listing import NAMES
from ops.runs.actors import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSwitched:
    """The new default provider and its model. Every worker uses it within five seconds."""

    name: str
    model: str
    previous: str
    previous_model: str
    dry_run: bool = False


def use_provider(*, name: str, by: Actor, model: str | None = None, dry_run: bool = False) -> ProviderSwitched:
    """Make `name` the default provider, with `model` or its own default model.

    Takes effect without a restart in every process that serves this database and has the provider configured. Raises
    `NotFound` for an unknown provider, `Conflict` with the missing setting, `InvalidInput` for an invalid model name,
    and `DatabaseUnavailable`.
    """
    check_provider(name, model)
    return _switch(ProviderChoice(name, model, by_operator=True), by, dry_run=dry_run)


def reset_provider(*, by: Actor, dry_run: bool = False) -> ProviderSwitched:
    """Delete the choice, so that AI_PROVIDER applies again. Raises `DatabaseUnavailable`."""
    return _switch(ProviderChoice(provider_services().configured.default.name), by, dry_run=dry_run)


def _switch(choice: ProviderChoice, by: Actor, *, dry_run: bool) -> ProviderSwitched:
    container = provider_services()
    previous = container.choices.resolve(container.runtime.read().get(KEY))
    if not dry_run and choice.by_operator:
        container.runtime.put(KEY, {"name": choice.name, "model": choice.model, "by": by.name}, by.user_id)
    elif not dry_run:
        container.runtime.remove(KEY)
    return ProviderSwitched(
        name=choice.name,
        model=default_model(container.configured, choice.name, choice),
        previous=previous.name,
        previous_model=default_model(container.configured, previous.name, previous),
        dry_run=dry_run,
    )


def check_provider(name: str, model: str | None = None) -> None:
    """Raise `NotFound`, `Conflict` or `InvalidInput` unless this process can serve the provider and the model."""
    if name not in NAMES:
        raise NotFound(f"There is no provider {name!r}. The providers are {', '.join(NAMES)}.")
    if setting := missing_setting(current_settings().provider, name):
        raise Conflict(
            f"{name} is not configured: set {setting} for every web server and restart them, then choose it."
        )
    if model is not None and not (0 < len(model.strip()) == len(model) <= MODEL_LIMIT and model.isprintable()):
        raise InvalidInput(f"A model's name has 1 to {MODEL_LIMIT} printable characters, without spaces around it.")
