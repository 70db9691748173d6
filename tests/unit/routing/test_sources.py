"""The index of sources against the plain comparison of every pair."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from sipd.routing.checks_sources import Source, SourceMap, sources_of
from sipd.routing.lookup import parse_source
from tests.unit.routing.cast import connection

PORTS = st.sampled_from([0, 5060, 5080])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Sources close to each other, so that many overlap."""
    last, prefix = draw(st.integers(0, 15)), draw(st.integers(26, 32))
    wide = ipaddress.ip_network(f"192.0.2.{last}/{prefix}", strict=False)
    six = ipaddress.ip_network(f"2001:db8::{last:x}/{prefix + 96}", strict=False)
    port = draw(PORTS)
    if port:
        return draw(st.sampled_from([f"192.0.2.{last}:{port}", f"[2001:db8::{last:x}]:{port}"]))
    return str(draw(st.sampled_from([wide, six])))


def overlap(one: str, other: str) -> bool:
    """As by hand."""
    (network, port), (second, second_port) = parse_source(one), parse_source(other)
    same = network.version == second.version and network.overlaps(second)
    return same and not (port and second_port and port != second_port)


def source(text: str) -> Source:
    [(_, found)] = sources_of(connection(sources=(text,)))
    return found


@given(st.lists(texts(), max_size=12), texts())
def test_overlaps_are_those_of_every_pair(entries: list[str], asked: str) -> None:
    index: SourceMap[int] = SourceMap()
    for place, text in enumerate(entries):
        index.add(source(text), place)
    expected = {place for place, text in enumerate(entries) if overlap(text, asked)}
    assert sorted(owner for _, owner in index.overlapping(source(asked))) == sorted(expected)
    for place, text in enumerate(entries[::2]):
        index.remove(source(text), place * 2)
    kept = {place for place in expected if place % 2}
    assert {owner for _, owner in index.overlapping(source(asked))} == kept


def test_sources_with_a_fault_are_left_out() -> None:
    link = connection(sources=("nonsense", "192.0.2.1", "10.0.0.0/0"))
    assert list(sources_of(link)) == [(1, Source(4, int(ipaddress.ip_address("192.0.2.1")), 32, 0))]
