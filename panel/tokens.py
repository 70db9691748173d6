"""Single-use secrets in links: the link holds the secret, the database only its hash."""

from __future__ import annotations

import secrets

from panel.signedin import hash_token

TOKEN_BYTES = 24


def new_token() -> tuple[str, str]:
    """A secret for a link, and its hash for the database."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, hash_token(token)


__all__ = ["hash_token", "new_token"]
