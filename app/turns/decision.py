"""Decision about a chat request: attach to the stream of an existing turn, or start an attempt."""

from dataclasses import dataclass

from app.turns.attempt import Attempt
from app.turns.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Attach:
    """The decision to read the stream of a turn that runs or has ended."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class Start:
    """The decision to run an attempt that has begun in the database."""

    attempt: Attempt
