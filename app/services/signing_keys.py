"""The keys that sign tokens, and their rotation: the current key signs, previous keys still verify.

Each token names its key in its header as `kid`, a short hash of the key. To rotate, move the current key to
`JWT_PREVIOUS_KEYS` and set a new one. Remove the old key after the longest-lived token has expired
(`REFRESH_TOKEN_DAYS`). If several servers restart one after the other, add the new key to `JWT_PREVIOUS_KEYS` of all of
them first, because servers that already sign with it run beside servers that do not have it.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from flask import current_app
from jwt import InvalidKeyError, decode, encode, get_unverified_header

from app.http_extensions import jwt

CONFIG = "JWT_SIGNING_KEYS"  # the key of Flask's configuration that holds the `SigningKeys`
ALGORITHM = "HS256"


class UnknownSigningKey(InvalidKeyError):
    """A token names a key that this server does not have."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and its public name."""

    secret: str = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        # An HMAC for this purpose alone: a plain hash of the key could be used elsewhere.
        object.__setattr__(self, "id", hmac.new(self.secret.encode(), b"parley kid", hashlib.sha256).hexdigest()[:16])


class SigningKeys:
    """The current key and the previous ones, in this order."""

    def __init__(self, current: str, previous: Sequence[str] = ()) -> None:
        self.current = SigningKey(current)
        self._by_id = {key.id: key for key in (self.current, *map(SigningKey, previous))}
        # The tokens of a key all have the same encoded header, so it need not be decoded.
        self._by_header = {_encoded_header(key): key for key in self}

    def __iter__(self) -> Iterator[SigningKey]:
        return iter(self._by_id.values())

    def verifying(self, header: Mapping[str, Any]) -> SigningKey:
        """Return the key of a token with this decoded header; without `kid`, the current key.

        Raises `UnknownSigningKey`.
        """
        try:
            return self._by_id[header["kid"]] if "kid" in header else self.current
        except KeyError:
            raise UnknownSigningKey from None

    def of(self, token: str) -> SigningKey:
        """Return the key that a token names. Raises `UnknownSigningKey`, and PyJWT's errors for an invalid token."""
        key = self._by_header.get(token.partition(".")[0])
        return key or self.verifying(get_unverified_header(token))


def signing_keys() -> SigningKeys:
    """Return the keys of the current application."""
    return cast(SigningKeys, current_app.config[CONFIG])


def verified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a valid token. Raises PyJWT's errors.

    Flask-JWT-Extended decodes a token three times for its callbacks: 180 microseconds instead of 50.
    """
    config = current_app.config
    return decode(
        token,
        signing_keys().of(token).secret,
        algorithms=config["JWT_DECODE_ALGORITHMS"],
        audience=config["JWT_DECODE_AUDIENCE"],
        issuer=config["JWT_DECODE_ISSUER"],
        leeway=config["JWT_DECODE_LEEWAY"],
    )


def _encoded_header(key: SigningKey) -> str:
    return encode({}, key.secret, ALGORITHM, headers={"kid": key.id}).partition(".")[0]


@jwt.additional_headers_loader
def _add_key_id(_identity: str) -> dict[str, str]:
    return {"kid": signing_keys().current.id}


@jwt.decode_key_loader
def _verification_key(header: dict[str, Any], _claims: dict[str, Any]) -> str:
    return signing_keys().verifying(header).secret
