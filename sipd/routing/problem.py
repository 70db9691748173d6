"""What is wrong with a table, and where: a sentence for a person, a place for a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]

MAX_SHOWN = 60
"""Characters of a value that a message repeats."""
_LABEL = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault. An error keeps a part from going live, a warning does not."""

    path: str
    """For people: `tenants[acme].users[101].extension`."""
    message: str
    """A sentence with the value, the limit, and what to do."""
    severity: Severity = "error"
    where: tuple[str, ...] = ()
    """For programs: (tenant id, collection, item id, field), "" for what does not apply."""
    others: tuple[str, ...] = ()
    """Ids of other tenants that have part in it. Their names are in no message: tenants read those."""

    @property
    def is_error(self) -> bool:
        """Whether the part must not go live."""
        return self.severity == "error"

    def as_dict(self) -> dict[str, str]:
        """As it goes over the control channel."""
        return {"path": self.path, "message": self.message, "severity": self.severity}


class Spot(NamedTuple):
    """A place in a table, from which problems are raised."""

    path: str = ""
    tenant: str = ""
    collection: str = ""
    item: str = ""
    field: str = ""

    def at(self, name: str) -> Spot:
        """The field `name` of this place."""
        path = f"{self.path}.{name}" if self.path else name
        return self._replace(path=path, field=f"{self.field}.{name}" if self.field else name)

    def entry(self, name: str, label: object, index: int) -> Spot:
        """One entry of the list `name`, which is no item of its own for programs."""
        spot = self.at(name)
        return spot._replace(path=f"{spot.path}[{_label(label, index)}]")

    def of_tenant(self, label: object, index: int, tenant_id: object) -> Spot:
        """One tenant of the table."""
        return Spot(f"tenants[{_label(label, index)}]", tenant_id if isinstance(tenant_id, str) else "")

    def of_item(self, collection: str, label: object, index: int, item_id: object) -> Spot:
        """One user, connection, number or rule of the tenant."""
        path = f"{self.path}.{collection}[{_label(label, index)}]"
        return Spot(path, self.tenant, collection, item_id if isinstance(item_id, str) else "")

    def error(self, message: str, others: tuple[str, ...] = ()) -> Problem:
        return Problem(self.path, message, "error", self._where(), others)

    def warning(self, message: str, others: tuple[str, ...] = ()) -> Problem:
        return Problem(self.path, message, "warning", self._where(), others)

    def _where(self) -> tuple[str, ...]:
        return (self.tenant, self.collection, self.item, self.field)


def _label(label: object, index: int) -> str:
    return label if isinstance(label, str) and _LABEL.fullmatch(label) else str(index)


def show(value: object) -> str:
    """A value as messages quote it: short, printable, and safe for values of any size and depth."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…")
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"
