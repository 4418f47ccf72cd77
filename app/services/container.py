"""What a process holds beside the database; made once, by the factory."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from app.config import Settings
from app.providers.registry import ProviderRegistry
from app.services.attempts import Attempts
from app.services.key_uses import KeyUses
from app.services.limit_counters import LimitCounters
from app.services.models import ModelLists
from app.services.passwords import PasswordHasher
from app.services.provider_choice import ProviderChoices
from app.services.runtime_settings import RuntimeSettings
from app.services.turns import TurnEngine


@dataclass(frozen=True)
class Services:
    settings: Settings
    providers: ProviderRegistry
    passwords: PasswordHasher
    turns: TurnEngine
    key_uses: KeyUses
    counters: LimitCounters
    attempts: Attempts
    runtime: RuntimeSettings
    choices: ProviderChoices
    models: ModelLists


def services() -> Services:
    """Those of the current application."""
    return cast(Services, current_app.extensions["parley"])
