"""Patterns of outbound rules, against regular expressions and against every short number."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd.routing.checks_text import pattern_fault
from sipd.routing.pattern import of_prefix, parse_pattern
from tests import strategies

ALPHABET = "019*+"
"""Enough to tell the classes apart."""
NUMBERS = ["".join(each) for length in range(5) for each in itertools.product(ALPHABET, repeat=length)]


def expression(text: str) -> re.Pattern[str]:
    """The oracle: the same as a regular expression."""
    end = {".": ".+", "!": ".*"}.get(text[-1:], "")
    body = text[:-1] if end else text
    for name, digits in (("X", "[0-9]"), ("Z", "[1-9]"), ("N", "[2-9]"), ("+", r"\+")):
        body = body.replace(name, digits)
    return re.compile(re.sub(r"(?<!\[)\*", r"\*", body) + end, re.DOTALL)


@given(strategies.PATTERNS, st.text(st.sampled_from("0123456789*+ab"), max_size=9))
def test_a_pattern_matches_what_its_expression_matches(text: str, dialled: str) -> None:
    assert parse_pattern(text).matches(dialled) == bool(expression(text).fullmatch(dialled))


@given(strategies.PATTERNS, st.data())
def test_a_pattern_matches_a_number_made_from_it(text: str, data: st.DataObject) -> None:
    made = data.draw(st.from_regex(expression(text), fullmatch=True))
    assert parse_pattern(text).matches(made)


SHORT = st.builds(
    "{}{}".format,
    st.lists(st.sampled_from([*"019*XZ", "[01]"]), min_size=1, max_size=3).map("".join),
    st.sampled_from(["", ".", "!"]),
)


@given(SHORT, SHORT)
def test_what_covers_takes_every_number_of_the_other(one: str, other: str) -> None:
    mine, theirs = parse_pattern(one), parse_pattern(other)
    if mine.covers(theirs):
        assert all(mine.matches(number) for number in NUMBERS if theirs.matches(number))


@given(strategies.PATTERNS)
def test_a_pattern_covers_itself(text: str) -> None:
    assert parse_pattern(text).covers(parse_pattern(text))
    assert of_prefix("").covers(parse_pattern(text))


@pytest.mark.parametrize(
    ("text", "takes", "refuses"),
    [
        ("00.", ["001", "0049301234"], ["00", "0", "01", ""]),
        ("00!", ["00", "001"], ["0", "10"]),
        ("NXXXXXX", ["2345678"], ["1234567", "234567", "23456789"]),
        ("[1-35]X", ["10", "29", "50"], ["40", "60", "1"]),
        ("+49Z!", ["+491", "+4930"], ["+490", "491"]),
        ("*21*X.", ["*21*10"], ["*21*1", "21*10"]),
        (".", ["1", "a"], [""]),
        ("!", ["", "1"], []),
        ("X", ["1"], ["１", "x", "12"]),
    ],
)
def test_patterns(text: str, takes: list[str], refuses: list[str]) -> None:
    pattern = parse_pattern(text)
    assert [number for number in takes if not pattern.matches(number)] == []
    assert [number for number in refuses if pattern.matches(number)] == []


@given(st.text(st.sampled_from("0X[]-.!+*_xa1"), max_size=70) | st.text(max_size=70))
def test_any_text_is_a_pattern_or_a_sentence(text: str) -> None:
    fault = pattern_fault(text)
    assert (fault == "") or fault.endswith(".")
    if not fault and text:
        parse_pattern(text)
