"""The backups that still contain an erased user's data."""

from collections.abc import Mapping
from typing import Any

from app.container import current_settings
from app.errors import ParleyError
from ops.backup.errors import BackupsNotConfigured
from ops.backup.inventory import Inventory
from ops.backup.retention import latest_expiry
from ops.backup.store import open_backup_store


def backups_with_user_data() -> list[Mapping[str, Any]]:
    """Return the name and latest expiry of every current backup.

    If the store is unavailable, the only entry has its error as `unknown`: an erasure does not wait for the store.
    """
    settings = current_settings()
    try:
        inventory = Inventory.load(open_backup_store(settings, quick=True))
    except BackupsNotConfigured:
        return []
    except ParleyError as error:
        return [{"name": None, "unknown": error.detail}]
    return [
        {"name": backup.name.text, "expires": latest_expiry(backup.name.taken_at, settings.backups)}
        for backup in inventory.backups
    ]
