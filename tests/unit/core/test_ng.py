"""The ng protocol's encoding, against its documentation and hostile datagrams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd import ng

values = st.recursive(
    st.binary(max_size=20) | st.integers(-(10**15), 10**15),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc -", max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_was_encoded_is_decoded(value: ng.Value) -> None:
    assert ng.decode(ng.encode(value)) == value


def test_as_the_documentation_has_it() -> None:
    assert ng.message("5323_1", {"command": "ping"}) == b"5323_1 d7:command4:pinge"
    assert ng.parse(b"5323_1 d6:result4:ponge") == ("5323_1", {"result": b"pong"})


def test_an_sdp_keeps_its_bytes() -> None:
    sdp = b"v=0\r\ns=\xff\x00 d3:\r\n"
    assert ng.parse(ng.message("c", {"sdp": sdp, "flags": ["a", "b"], "n": -5})) == (
        "c",
        {"flags": [b"a", b"b"], "n": -5, "sdp": sdp},
    )


@pytest.mark.parametrize(
    "datagram",
    [
        b"", b"c", b"c ", b"c d", b"c l", b"c i5", b"c ie", b"c i--5e", b"c 5:abc", b"c -1:a", b"c 99999999999:",
        b"c de more", b"c i5e", b"c d1:ae", b"c di5e1:ae", b"\xff de", b"c " + b"l" * 100_000, b"c 1" + b"1" * 100_000,
        b"c " + b"l" * 17 + b"e" * 17, b"c x",
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(datagram: bytes) -> None:
    with pytest.raises(ng.NgError):
        ng.parse(datagram)


@given(st.binary(max_size=60))
def test_any_datagram_is_read_or_refused(data: bytes) -> None:
    try:
        _, fields = ng.parse(b"c " + data)
    except ng.NgError:
        return
    assert isinstance(fields, dict)
