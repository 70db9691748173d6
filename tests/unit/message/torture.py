"""Where the messages of RFC 4475 are, and what is expected of each."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

HOME = Path(os.environ.get("TENANTRY_TORTURE") or Path(__file__).parents[4] / "shared" / "torture")
TABLE = HOME / "rfc4475" / "classification.tsv"
MISSING = f"RFC 4475 messages not found: no {TABLE.name} below TENANTRY_TORTURE or ../shared/torture"
STREAM_ONLY_WAITS = {"clerr"}
"""Content-Length larger than what comes: a stream waits for the rest, and the slow sender is cut (RFC 4475 3.1.2.2)."""


class Case(NamedTuple):
    """One message; `strict_ok` and `liberal_ok` are expressions for the status of the first final answer."""

    name: str
    rfc_class: str
    strict_ok: str
    liberal_ok: str
    data: bytes


def _cases() -> list[Case]:
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [Case(r[0], r[2], r[5], r[6], (TABLE.parent / f"{r[0]}.dat").read_bytes()) for r in rows]


CASES = _cases()


def fits(wanted: str, got: str) -> bool:
    if wanted == "VALID":
        return got != "NONE" and got != "400" and (got[0] != "5" or got in ("501", "503", "504"))
    return re.fullmatch(wanted, got) is not None


def expected(case: Case, got: str) -> bool:
    """Whether the status of the first final answer, or NONE, is one that the RFC allows."""
    return any(fits(part, got) for part in (*case.strict_ok.split("|"), *case.liberal_ok.split("|")) if part)
