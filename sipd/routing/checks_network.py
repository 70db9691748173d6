"""Checks of the networks that the installation allows and blocks, and which of them keep a source out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from sipd.routing.checks_scope import Problems, check_list
from sipd.routing.checks_sources import Source, SourceMap
from sipd.routing.checks_text import network_fault
from sipd.routing.lookup import parse_source
from sipd.routing.model import MAX_NETWORKS, Installation
from sipd.routing.problem import Spot, show

KINDS = ("allowed", "blocked")
"""Lists of networks."""


def check_networks(spot: Spot, installation: Installation) -> Problems:
    """Both lists, and that no network is in both."""
    for name in KINDS:
        networks: tuple[str, ...] = getattr(installation, name)
        if len(networks) > MAX_NETWORKS:
            yield spot.at(name).error(
                f"There are {len(networks)} networks; the limit is {MAX_NETWORKS}. Join neighbours to larger ones."
            )
        yield from check_list(spot, name, networks, network_fault)
    allowed = frozenset(installation.allowed)
    for index, text in enumerate(installation.blocked):
        if text in allowed:
            yield spot.entry("blocked", None, index).error(f"{show(text)} is also allowed; remove it from one list.")


def blocking(source: Source, allowed: tuple[str, ...], blocked: tuple[str, ...]) -> Iterator[str]:
    """Blocked networks with addresses of the source that no allowed one excepts: the narrower one holds."""
    around = [each for each, _ in _index(allowed).overlapping(source) if each.prefix <= source.prefix]
    narrowest = max((each.prefix for each in around), default=-1)
    for each, text in _index(blocked).overlapping(source):
        if each.prefix > narrowest:
            yield text


@lru_cache(maxsize=4)
def _index(networks: tuple[str, ...]) -> SourceMap[str]:
    """The networks without a fault, each with its text; for looking up only, as all tenants are compared with it."""
    found: SourceMap[str] = SourceMap()
    for text in networks:
        if not network_fault(text):
            found.add(source_of(text), text)
    return found


def source_of(network: str) -> Source:
    """A good network as the index of sources has it."""
    parsed, _ = parse_source(network)
    return Source(parsed.version, int(parsed.network_address), parsed.prefixlen, 0)
