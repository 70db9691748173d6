"""docs/limits.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sipd.message.message import MAX_ELEMENTS
from sipd.message.scanner import DEFAULT
from sipd.net import limits

WRITTEN = dict(
    re.findall(
        r"^\| `(\w+)` \| ([0-9.]+)", (Path(__file__).parents[3] / "docs" / "limits.md").read_text(), re.MULTILINE
    )
)
NAMES = [name for name in vars(limits) if name.isupper()]
IN_FORCE = {name: getattr(limits, name) for name in NAMES} | {**DEFAULT._asdict(), "MAX_ELEMENTS": MAX_ELEMENTS}


def test_each_limit_is_written_down_and_no_other() -> None:
    assert WRITTEN.keys() == IN_FORCE.keys()


@pytest.mark.parametrize("name", IN_FORCE)
def test_with_its_value(name: str) -> None:
    assert float(WRITTEN[name]) == float(IN_FORCE[name])
