"""Settings without limits: in most tests one user at one address sends many requests. Tests of limits set their own."""

from app.config import Limits

NAMES = [name for name in Limits.model_fields if name != "url"]
# As environment variables of a process.
NO_LIMITS = {
    **{str(Limits.model_fields[name].validation_alias): "0" for name in NAMES},
    "CHAT_MAX_RUNNING_PER_USER": "0",
}
