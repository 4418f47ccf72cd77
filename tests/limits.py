"""No limits: in most tests one user, at one address, stands for many. Those who test a limit set one."""

from app.config import Limits

NAMES = [name for name in Limits.model_fields if name != "url"]
# As variables of a process's environment.
NO_LIMITS = {
    **{str(Limits.model_fields[name].validation_alias): "0" for name in NAMES},
    "CHAT_MAX_RUNNING_PER_USER": "0",
}
