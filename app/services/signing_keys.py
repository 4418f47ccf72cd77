"""The keys that sign tokens, and their rotation: one signs, those before it still verify.

Every token names its key in its header, as `kid`: a short hash of the key. To rotate, the key that signs moves to
`JWT_PREVIOUS_KEYS` and a new one takes its place; once the longest-lived token has expired (`REFRESH_TOKEN_DAYS`), the
old one can go. Where several servers restart one after the other, the new key comes first into everybody's
`JWT_PREVIOUS_KEYS`, because those that sign with it already meet those that do not know it yet.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from flask import current_app
from jwt import InvalidKeyError, decode, encode, get_unverified_header

from app.extensions import jwt

CONFIG = "JWT_SIGNING_KEYS"  # where Flask's configuration holds the `SigningKeys`
ALGORITHM = "HS256"


class UnknownSigningKey(InvalidKeyError):
    """A token names a key that this server does not have, or has no more."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and its public name."""

    secret: str = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        # Of the key, and of no use but as its name: a bare hash might be asked for elsewhere.
        object.__setattr__(self, "id", hmac.new(self.secret.encode(), b"parley kid", hashlib.sha256).hexdigest()[:16])


class SigningKeys:
    """The current key and those before it, in this order."""

    def __init__(self, current: str, previous: Sequence[str] = ()) -> None:
        self.current = SigningKey(current)
        self._by_id = {key.id: key for key in (self.current, *map(SigningKey, previous))}
        # How the tokens of each key begin: always with the same header, so it need not be read in every one of them.
        self._by_beginning = {_beginning(key): key for key in self}

    def __iter__(self) -> Iterator[SigningKey]:
        return iter(self._by_id.values())

    def verifying(self, header: Mapping[str, Any]) -> SigningKey:
        """The key for a token with this header; one without `kid` is taken to be signed by the current key.

        Raises `UnknownSigningKey`.
        """
        try:
            return self._by_id[header["kid"]] if "kid" in header else self.current
        except KeyError:
            raise UnknownSigningKey from None

    def of(self, token: str) -> SigningKey:
        """The key that a token says it was signed by. Raises `UnknownSigningKey`, and PyJWT's errors for no token."""
        known = self._by_beginning.get(token.partition(".")[0])
        return known or self.verifying(get_unverified_header(token))


def signing_keys() -> SigningKeys:
    """Those of the current application."""
    return cast(SigningKeys, current_app.config[CONFIG])


def verified_claims(token: str) -> dict[str, Any]:
    """The claims of a token that one of our keys has signed and that holds now. Raises PyJWT's errors.

    Flask-JWT-Extended's own way decodes a token three times, to tell its callbacks: 180 microseconds instead of 50.
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


def _beginning(key: SigningKey) -> str:
    return encode({}, key.secret, ALGORITHM, headers={"kid": key.id}).partition(".")[0]


@jwt.additional_headers_loader
def _name_the_key(_identity: str) -> dict[str, str]:
    return {"kid": signing_keys().current.id}


@jwt.decode_key_loader
def _key_of(header: dict[str, Any], _claims: dict[str, Any]) -> str:
    return signing_keys().verifying(header).secret
