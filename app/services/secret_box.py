"""Encryption of secrets that are stored in the database, with keys that rotate.

The current key encrypts; previous keys still decrypt. To rotate, move the value of `SECRETS_KEY` to
`SECRETS_PREVIOUS_KEYS`, set a new one, restart, and run `flask ops mcp rotate`; then remove the previous key. Without
`SECRETS_KEY` the keys are derived from `JWT_SECRET_KEY` and `JWT_PREVIOUS_KEYS`.
"""

import base64
import hmac

from app.config import Settings
from app.errors import Conflict, SettingsError


class SecretUnreadable(Conflict):
    code = "secret_unreadable"
    default_detail = (
        "A stored secret cannot be decrypted with the keys of this server: add the earlier key to"
        " SECRETS_PREVIOUS_KEYS, or store the secret again."
    )


class SecretBox:
    """Encrypts texts with the first of `keys`, and decrypts with any of them. Raises `ValueError` without keys."""

    def __init__(self, *keys: str) -> None:
        from cryptography.fernet import Fernet, MultiFernet  # 60 ms: only where a secret is used

        self._fernet = MultiFernet([Fernet(_derived(key)) for key in keys])

    def encrypt(self, text: str) -> str:
        """Return `text` encrypted with the current key."""
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, token: str) -> str:
        """Return the text of `token`. Raises `SecretUnreadable`."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise SecretUnreadable from None

    def rotate(self, token: str) -> str:
        """Return the text of `token` encrypted with the current key. Raises `SecretUnreadable`."""
        return self.encrypt(self.decrypt(token))


def secret_box(settings: Settings) -> SecretBox:
    """Return the box of the settings' keys. Raises `SettingsError` without any."""
    own, auth = settings.mcp_servers, settings.auth
    keys = (own.secrets_key, *own.secrets_previous_keys, auth.jwt_secret_key, *auth.jwt_previous_keys)
    texts = [key.get_secret_value() for key in keys if key is not None]
    if not texts:
        raise SettingsError("SECRETS_KEY: set it or JWT_SECRET_KEY, so that secrets can be stored")
    return SecretBox(*texts)


def _derived(key: str) -> bytes:
    """Return the key of Fernet for a setting's value, for this purpose alone."""
    return base64.urlsafe_b64encode(hmac.digest(key.encode(), b"parley stored secrets", "sha256"))
