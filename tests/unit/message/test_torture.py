"""The messages of RFC 4475, each with what the parser has to say about it."""

from __future__ import annotations

import pytest

from sipd.message.check import check
from sipd.message.errors import BadMessage
from sipd.message.scanner import scan
from tests.unit.message.torture import CASES, MISSING, Case

# Well-formed for the parser: another scheme, unknown extensions, no hops left, credentials, media types.
CORE_DECIDES = {"401", "406", "415", "416", "420", "483"}
EXPECTED_COUNT = 49

pytestmark = pytest.mark.skipif(not CASES, reason=MISSING)


def outcome(data: bytes) -> str:
    try:
        check(scan(data))
    except BadMessage as bad:
        return str(bad.status)
    return "VALID"


def test_all_are_there() -> None:
    assert len(CASES) == EXPECTED_COUNT


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rfc4475(case: Case) -> None:
    accepted = set(case.strict_ok.split("|"))
    if accepted == {"NONE"}:  # responses: the malformed are discarded, the others go up
        accepted = {"VALID"} if case.name not in ("scalarlg", "bigcode") else {"400"}
    elif accepted & CORE_DECIDES:
        accepted = {"VALID"}
    assert outcome(case.data) in accepted, case.rfc_class
