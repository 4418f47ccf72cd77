"""The defaults, for what is run without pytest."""

import os

from app.config import GROUPS, Settings, load_settings


def defaults() -> Settings:
    """Nothing of the developer's environment, which is also taken away from whatever is started from here."""
    for group in GROUPS.values():
        for setting in group.model_fields.values():
            os.environ.pop(str(setting.validation_alias), None)
    return load_settings(env_file=None)
