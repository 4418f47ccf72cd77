"""Timeouts of an outbound call."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds: to connect, to the first event, between two events, and for the complete answer."""

    connect: float = 5
    first_token: float = 60
    idle: float = 30
    total: float = 300
