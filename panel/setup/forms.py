"""What the set-up page takes."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from panel.auth.forms import Email, Password, checked_strength
from panel.forms import Input


class SetUp(Input):
    name: str = Field(default="", max_length=200)
    email: Email
    password: Password

    @field_validator("password")
    @classmethod
    def strong(cls, password: str, info: ValidationInfo) -> str:
        return checked_strength(password, info.data.get("name", ""), info.data.get("email", ""))
