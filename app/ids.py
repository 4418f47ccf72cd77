"""Ids of new rows."""

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """Return a UUIDv7: not guessable, and ordered by time, so that inserts fill index pages in order."""
    return uuid_utils.compat.uuid7()
