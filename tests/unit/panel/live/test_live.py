"""How calls are said."""

from datetime import timedelta

import pytest

from panel.live.service import duration, party

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (-3, "0:00"), (42.4, "0:42"), (61, "1:01"), (3723, "1:02:03")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("uri", "text"),
    [("sip:101@acme.example", "101"), ("sips:a@b", "a"), ("sip:acme.example", "acme.example"), ("", ""), ("x", "x")],
)
def test_party(uri: str, text: str) -> None:
    assert party(uri) == text
