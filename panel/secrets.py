"""The installation's key and what is sealed with it: SIP passwords, upstream passwords, node tokens.

The cipher is AES-256-SIV (RFC 5297), which `sipd.routing.seal` binds to the place of each secret.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from flask import Flask, current_app

from panel.config import Config, ConfigError, write_private
from sipd.routing import seal as sealing


class Vault:
    """Seals and unseals with the installation's key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def seal(self, place: Sequence[str], secret: str) -> str:
        return sealing.seal(self._cipher, place, secret)

    def unseal(self, place: Sequence[str], sealed: str) -> str:
        """Raises `sipd.routing.seal.SealError`."""
        return sealing.unseal(self._cipher, place, sealed)


def load_key(path: Path) -> bytes:
    """Read the key file; makes one, readable by its owner only, where there is none."""
    try:
        write_private(path, base64.b64encode(os.urandom(sealing.KEY_BYTES)).decode() + "\n")
    except FileExistsError:
        pass
    try:
        key = base64.b64decode(path.read_text().strip(), validate=True)
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no installation key: base64 of {sealing.KEY_BYTES} bytes is expected") from error
    if len(key) != sealing.KEY_BYTES:
        raise ConfigError(f"{path} holds {len(key)} bytes; an installation key has {sealing.KEY_BYTES}")
    return key


def init_app(app: Flask, config: Config) -> None:
    app.extensions["tenantry.vault"] = Vault(load_key(config.key_file))


def vault() -> Vault:
    found: Vault = current_app.extensions["tenantry.vault"]
    return found
