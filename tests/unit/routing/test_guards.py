"""What a guard against toll fraud is for, however its number is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd.routing.guards import dialled_digits, guards_for
from sipd.routing.model import Guard

GUARDS = [Guard("a", "00882", 3), Guard("b", "+882", 3), Guard("c", "0900", 0), Guard("d", "00", 9)]


def hit(number: str) -> str:
    return "".join(guard.id for guard in guards_for(GUARDS, [number]))


@pytest.mark.parametrize(
    ("number", "ids"),
    [
        ("00882123", "ad"), ("+882123", "b"), ("0900", "c"), ("09001", "c"), ("090", ""), ("1900", ""), ("", ""),
        ("0-900.1 (2)", "c"), ("%30900", "c"), ("%2530900", "c"), ("%2B882", "b"), ("tel:0900", "c"),
        ("TEL:+882;phone-context=x", "b"), ("0900;phone-context=+1", "c"), ("0900@elsewhere", "c"),
        ("0WX00", ""), ("0w00", "c"), ("\N{FULLWIDTH DIGIT ZERO}900", "c"), ("\N{ARABIC-INDIC DIGIT ZERO}900", "c"),
        ("0\x00900", "c"), ("0\u200b900", "c"), ("++882", "b"), ("+8+82", "b"), ("_0900", "c"), ("*0900", ""),
    ],
)  # fmt: skip
def test_which_guards_are_for_a_number(number: str, ids: str) -> None:
    assert hit(number) == ids


SEPARATORS = st.text(" -.()/_~!,\u00a0\u200b\t", max_size=3)


@given(st.lists(st.tuples(st.sampled_from("0123456789*"), SEPARATORS), max_size=15))
def test_separators_hide_nothing(written: list[tuple[str, str]]) -> None:
    assert dialled_digits("".join(map("".join, written))) == "".join(digit for digit, _ in written)


@given(st.text())
def test_anything_can_be_asked(text: str) -> None:
    assert set(dialled_digits(text)) <= set("0123456789*#+")
