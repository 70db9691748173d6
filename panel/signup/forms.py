"""What the sign-up pages take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from panel.auth.forms import Email, Password, checked_strength
from panel.forms import Input
from sipd.routing.checks_text import name_fault
from sipd.routing.model import MAX_NAME

MAX_SLUG_TYPED = 63


def checked_name(text: str) -> str:
    if fault := name_fault(text):
        raise ValueError(fault)
    return text


OrganisationName = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(checked_name)]


class SignUp(Input):
    organisation: OrganisationName
    slug: str = Field(min_length=1, max_length=MAX_SLUG_TYPED)
    """Short name: the label under the platform domain."""
    email: Email
    password: Password

    @field_validator("password")
    @classmethod
    def strong(cls, password: str, info: ValidationInfo) -> str:
        return checked_strength(password, info.data.get("organisation", ""), info.data.get("email", ""))


class Resend(Input):
    email: Email
