"""The settings of the tests' applications."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.config import GROUPS, Settings, load_settings
from tests import limits


def make_settings(database_url: str, home: Path) -> Settings:
    """Return the default settings, without the environment of the caller, on a database and a home of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for group in GROUPS.values():
            for field in group.model_fields.values():
                patch.delenv(str(field.validation_alias), raising=False)
        loaded = load_settings(env_file=None)
    return replace(
        loaded,
        chat=loaded.chat.model_copy(update={"max_running_per_user": 0}),
        limits=loaded.limits.model_copy(update=dict.fromkeys(limits.NAMES, 0)),
        server=loaded.server.model_copy(update={"home": home}),
        database=loaded.database.model_copy(update={"url": database_url}),
        auth=loaded.auth.model_copy(update={"jwt_secret_key": SecretStr("a-secret-for-tests-only-0123456789abcdef")}),
    )


def default_settings() -> Settings:
    """Return the defaults, and remove every setting from the environment, which child processes inherit."""
    for group in GROUPS.values():
        for setting in group.model_fields.values():
            os.environ.pop(str(setting.validation_alias), None)
    return load_settings(env_file=None)
