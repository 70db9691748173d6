"""The messages of RFC 4475, each with what the parser has to say about it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sipd.message.check import check
from sipd.message.errors import BadMessage
from sipd.message.scanner import scan

HOME = Path(os.environ.get("TENANTRY_TORTURE") or Path(__file__).parents[4] / "shared" / "torture")
TABLE = HOME / "rfc4475" / "classification.tsv"
# Well-formed for the parser: another scheme, unknown extensions, no hops left, credentials, media types.
CORE_DECIDES = {"401", "406", "415", "416", "420", "483"}
MISSING = f"RFC 4475 messages not found: no {TABLE.name} below TENANTRY_TORTURE or ../shared/torture"
EXPECTED_COUNT = 49

pytestmark = pytest.mark.skipif(not TABLE.exists(), reason=MISSING)


def rows() -> list[list[str]]:
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def outcome(data: bytes) -> str:
    try:
        check(scan(data))
    except BadMessage as bad:
        return str(bad.status)
    return "VALID"


def test_all_are_there() -> None:
    assert len(rows()) == EXPECTED_COUNT


@pytest.mark.parametrize("row", rows() or [["none"]], ids=lambda row: row[0])
def test_rfc4475(row: list[str]) -> None:
    name, _, rfc_class, _, _, strict_ok = row[:6]
    accepted = set(strict_ok.split("|"))
    if accepted == {"NONE"}:  # responses: the malformed are discarded, the others go up
        accepted = {"VALID"} if name not in ("scalarlg", "bigcode") else {"400"}
    elif accepted & CORE_DECIDES:
        accepted = {"VALID"}
    data = (TABLE.parent / f"{name}.dat").read_bytes()
    assert outcome(data) in accepted, rfc_class
