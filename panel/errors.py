"""Errors that services raise and that the app turns into answers."""

from __future__ import annotations


class NotFound(LookupError):
    """No such row, or none that this scope may know of: 404, the same answer for both."""


class Forbidden(PermissionError):
    """Known, but not with this role: 403."""


class Invalid(ValueError):
    """The input cannot be taken: 422 with the form. `problems` maps field names to plain sentences."""

    def __init__(self, **problems: str) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems
