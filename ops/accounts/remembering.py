"""Where erased people are still remembered: the backups that were taken while they were there."""

from collections.abc import Mapping
from typing import Any

from app.errors import ParleyError
from app.services.container import services
from ops.backup.errors import NotSetUp
from ops.backup.inventory import Inventory
from ops.backup.retention import kept_until
from ops.backup.stores.opening import open_store


def backups_that_remember() -> list[Mapping[str, Any]]:
    """Every backup there is now: its name, and until when it is kept at most.

    A store that cannot be asked is told as `unknown`, with the reason: an erasure does not wait for it.
    """
    settings = services().settings
    try:
        inventory = Inventory.of(open_store(settings, hasty=True))
    except NotSetUp:
        return []
    except ParleyError as error:
        return [{"name": None, "unknown": error.detail}]
    return [
        {"name": backup.name.text, "expires": kept_until(backup.name.taken_at, settings.backups)}
        for backup in inventory.backups
    ]
