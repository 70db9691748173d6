"""What the sign-in page takes, and the e-mail field that others share."""

from __future__ import annotations

from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field, StringConstraints

from panel.forms import Input
from panel.passwords import MAX_LENGTH, weakness

MAX_EMAIL = 254
"""RFC 5321 section 4.5.3.1."""


def checked_email(text: str) -> str:
    """The address in the one spelling that accounts are kept under: normalised and lower-case."""
    try:
        # "localhost.example" and other test domains are fine: whether mail arrives is proved by the link in it
        return validate_email(text, check_deliverability=False, test_environment=True).normalized.lower()
    except EmailNotValidError as error:
        raise ValueError(f"“{text}” is no e-mail address: {error}") from error


Email = Annotated[str, Field(min_length=1, max_length=MAX_EMAIL), AfterValidator(checked_email)]


Password = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=MAX_LENGTH)]
"""As it was typed; whether it is strong enough is for `panel.passwords.weakness` to say."""


def checked_strength(password: str, *own: str) -> str:
    """A password that somebody chooses anew; `own` are words of theirs that do not make it stronger."""
    if fault := weakness(password, *own):
        raise ValueError(fault)
    return password


class SignIn(Input):
    """Not checked further than for length: a wrong address is a wrong sign-in, no more."""

    email: str = Field(min_length=1, max_length=MAX_EMAIL)
    password: Password
