"""What the set-up page takes."""

from __future__ import annotations

from pydantic import Field

from panel.auth.forms import Email, Password
from panel.forms import Input


class SetUp(Input):
    name: str = Field(default="", max_length=200)
    email: Email
    password: Password
