"""Daily quotas of tokens, for operators: who may use how many, and how many they have used.

A turn is refused when what it may take, QUOTA_OUTPUT_TOKENS for the answer among it, does not fit into what is left: a
quota below that lets nothing through.
"""

from uuid import UUID

from app.services import quotas
from app.services.quotas import Quota

__all__ = ["Quota", "quota_of", "set_quota"]


def set_quota(*, user_id: UUID, tokens_per_day: int | None) -> Quota:
    """Let the user have so many tokens a day, in UTC; None: as many as they like.

    Turns that are running are not stopped. Raises `InvalidInput` for less than 1, and `NotFound`.
    """
    return quotas.set_quota(user_id, tokens_per_day)


def quota_of(*, user_id: UUID) -> Quota:
    """The user's quota and what of today's is used; `tokens_per_day` is None without one. Raises `NotFound`."""
    return quotas.quota_of(user_id)
