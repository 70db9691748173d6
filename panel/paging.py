"""Lists in pages: search, sort and page number come from the address and are checked against what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import func
from sqlmodel import Session, select
from sqlmodel.sql.expression import SelectOfScalar

T = TypeVar("T")
PAGE_ROWS = 25
MAX_PAGE = 100_000
MAX_SEARCH = 100
"""Characters of a search; more is cut."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; `number` counts from 1."""

    rows: list[T]
    number: int
    total: int
    size: int = PAGE_ROWS

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def first(self) -> int:
        return (self.number - 1) * self.size + 1 if self.rows else 0

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1 if self.rows else 0


def paged(session: Session, statement: SelectOfScalar[T], number: int, order: tuple[Any, ...]) -> Page[T]:
    """The rows of page `number`; beyond the last page, the last one."""
    total = session.exec(select(func.count()).select_from(statement.order_by(None).subquery())).one()
    number = min(max(1, number), max(1, -(-total // PAGE_ROWS)))
    rows = session.exec(statement.order_by(*order).limit(PAGE_ROWS).offset((number - 1) * PAGE_ROWS)).all()
    return Page(list(rows), number, total)


def page_number(text: str | None) -> int:
    """The page that an address asks for; anything odd is the first."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > len(str(MAX_PAGE)):
        return 1
    return min(max(1, int(text)), MAX_PAGE)


def like(search: str) -> str:
    """A pattern for `ilike(..., escape="\\\\")` that finds `search` anywhere, its own % and _ taken as they are."""
    text = search.strip()[:MAX_SEARCH]
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{text}%"
