"""What machines say, made fit to be stored and shown."""

import re

REPLACEMENT = "\ufffd"

# NUL cannot be stored in PostgreSQL text; a surrogate without its partner cannot be written as UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

# A key by its prefix, or any long run of letters and digits: nothing that a person needs to read.
_KEY_LIKE = re.compile(
    r"\bBearer\s+\S+|\b(?:sk|pk|rk|gsk|hf|xai|key|token|AIza)[-_][\w*.\-]{4,}|\b\w{32,}", re.IGNORECASE
)


def clean_text(text: str) -> str:
    """`text` with every NUL and lone surrogate replaced by U+FFFD."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def without_secrets(text: str, *secrets: str) -> str:
    """`text` without these secrets and without what looks like a key."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "[redacted]")
    return _KEY_LIKE.sub("[redacted]", text)


def shortened(text: str, characters: int) -> str:
    """`text` on one line, cut to so many characters."""
    line = " ".join(clean_text(text).split())
    return line if len(line) <= characters else line[: characters - 3] + "..."
