"""Passwords of accounts: argon2id, and what counts as strong."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_LENGTH = 12
MAX_LENGTH = 200
MIN_DIFFERENT = 5
"""Different characters in a password."""
MIN_WORD = 4
"""Letters from which on a word of one's own name counts as part of the password."""
COMMON = frozenset(
    "password passwort qwerty qwertz qwertyuiop asdfgh letmein iloveyou welcome admin administrator changeme "
    "secret football baseball dragon monkey sunshine princess superman batman trustno1 abc123 123456 1234567 "
    "12345678 123456789 1234567890 123123 111111 000000 correcthorsebatterystaple".split()
)
"""What guessers try first; such a word may stand in a password, but must not be the most of it."""

_hasher = PasswordHasher()
_nobody = _hasher.hash(secrets.token_urlsafe(16))


def hash_password(password: str) -> str:
    return _hasher.hash(password)


def matches(password_hash: str | None, password: str) -> bool:
    """Whether the password is right. Takes as long for an account that does not exist (None)."""
    try:
        return _hasher.verify(password_hash or _nobody, password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str) -> bool:
    """Whether it was made with weaker settings than today's."""
    return _hasher.check_needs_rehash(password_hash)


def weakness(password: str, *own: str) -> str:
    """Why the password is too weak, as a sentence; empty when it is not. `own`: e-mail, name, organisation."""
    if len(password) < MIN_LENGTH:
        return f"At least {MIN_LENGTH} characters, please; this has {len(password)}. A few words make a good one."
    if len(password) > MAX_LENGTH:
        return f"At most {MAX_LENGTH} characters, please; this has {len(password)}."
    if len(set(password)) < MIN_DIFFERENT:
        return f"This repeats itself: at least {MIN_DIFFERENT} different characters, please."
    rest = plain = password.casefold().replace(" ", "")
    for word in sorted(COMMON | _words(own), key=len, reverse=True):
        rest = rest.replace(word, "")
    if len(rest) < len(plain) / 2:
        return "This is easy to guess: most of it is a common word, or your own name or address."
    return ""


def _words(own: tuple[str, ...]) -> set[str]:
    text = " ".join(own).casefold()
    parts = "".join(letter if letter.isalnum() else " " for letter in text).split()
    return {part for part in parts if len(part) >= MIN_WORD}
