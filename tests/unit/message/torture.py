"""Where the messages of RFC 4475 are, and what is expected of each."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

HOME = Path(os.environ.get("TENANTRY_TORTURE") or Path(__file__).parents[4] / "shared" / "torture")
TABLE = HOME / "rfc4475" / "classification.tsv"
MISSING = f"RFC 4475 messages not found: no {TABLE.name} below TENANTRY_TORTURE or ../shared/torture"
OVER_A_STREAM = {
    "clerr": "NONE",  # Content-Length larger than what comes: a stream waits for the rest (RFC 4475 3.1.2.2)
    "baddn": "NONE",  # its headers do not end: the same (RFC 3261 7.5)
    "inv2543": "400",  # no Content-Length, which a stream needs (RFC 3261 18.3)
}
"""Where the transport makes a difference; who sends no more is cut in time."""


class Case(NamedTuple):
    """One message; `strict_ok` is an expression for the status of the first final answer."""

    name: str
    rfc_class: str
    strict_ok: str
    data: bytes


def _cases() -> list[Case]:
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [Case(r[0], r[2], r[5], (TABLE.parent / f"{r[0]}.dat").read_bytes()) for r in rows]


CASES = _cases()


def fits(wanted: str, got: str) -> bool:
    if wanted == "VALID":
        return got != "NONE" and got != "400" and (got[0] != "5" or got in ("501", "503", "504"))
    return re.fullmatch(wanted, got) is not None


def expected(case: Case, got: str, *, stream: bool = False) -> bool:
    """Whether the status of the first final answer, or NONE, is what the RFC asks for, without the leniency that it
    also allows: the edge needs none of it."""
    wanted = OVER_A_STREAM.get(case.name, case.strict_ok) if stream else case.strict_ok
    return any(fits(part, got) for part in wanted.split("|"))
