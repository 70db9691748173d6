"""Sealed secrets: deterministic authenticated encryption, bound to the place where the secret lives.

The cipher is passed in (AES-SIV, RFC 5297: `cryptography.hazmat.primitives.ciphers.aead.AESSIV`), so
that the contract stays free of dependencies. Same secret, same place, same key: same text. A sealed
text moved to another place does not open.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Protocol

KEY_BYTES = 64
"""AES-256-SIV."""
PREFIX = "siv1:"


class Cipher(Protocol):
    """What `AESSIV` offers."""

    def encrypt(self, data: bytes, associated_data: list[bytes], /) -> bytes: ...

    def decrypt(self, data: bytes, associated_data: list[bytes], /) -> bytes: ...


class SealError(ValueError):
    """The text is no sealed secret, or not of this place and key."""


def seal(cipher: Cipher, place: Sequence[str], secret: str) -> str:
    """Seal `secret` for `place`, such as `(tenant id, user id, "ha1_md5")`. Empty stays empty."""
    if not secret:
        return ""
    data = cipher.encrypt(secret.encode(), [part.encode() for part in place])
    return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def unseal(cipher: Cipher, place: Sequence[str], sealed: str) -> str:
    """Open what `seal` made for the same place; raises `SealError`."""
    if not sealed:
        return ""
    if not is_sealed(sealed):
        raise SealError("not a sealed secret")
    text = sealed[len(PREFIX) :]
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return cipher.decrypt(data, [part.encode() for part in place]).decode()
    except (ValueError, binascii.Error) as error:
        raise SealError("not a sealed secret") from error
    except Exception as error:  # the cipher's own InvalidTag, whose type the contract does not know
        raise SealError("sealed with another key or for another place") from error


def is_sealed(text: str) -> bool:
    """Whether `text` has the shape of a sealed secret; says nothing about the key."""
    body = text[len(PREFIX) :]
    letters = body.replace("-", "").replace("_", "")
    return text.startswith(PREFIX) and len(body) >= 22 and letters.isascii() and letters.isalnum()
