"""Which source addresses overlap: networks compared as numbers, at a cost that does not grow with the table.

The transport tells no two connections apart: one over UDP is also believed over TCP (see
`lookup.SourceIndex.find`), so any two of them can be meant by a request over TCP.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from sipd.routing.checks_text import source_fault
from sipd.routing.lookup import parse_source
from sipd.routing.model import Connection

Owner = TypeVar("Owner")


class Source(NamedTuple):
    """One entry of a connection's sources. The fields are in the order in which the index sorts them."""

    version: int
    first: int
    """Lowest address."""
    prefix: int
    port: int
    """0: any."""

    @property
    def last(self) -> int:
        """Highest address."""
        return self.first | ((1 << (_bits(self.version) - self.prefix)) - 1)

    def shares_with(self, other: Source) -> bool:
        """Whether one request can match both; the addresses are known to overlap."""
        return not (self.port and other.port and self.port != other.port)


def _bits(version: int) -> int:
    return 32 if version == 4 else 128


def sources_of(connection: Connection) -> Iterator[tuple[int, Source]]:
    """The connection's sources with their places in the list, without those that have a fault."""
    for index, text in enumerate(connection.sources):
        if not source_fault(text):
            network, port = parse_source(text)
            yield index, Source(network.version, int(network.network_address), network.prefixlen, port)


class SourceMap(Generic[Owner]):
    """Sources and who owns each. Networks nest or are apart, so overlaps are ancestors and descendants."""

    def __init__(self) -> None:
        self._owners: dict[Source, list[Owner]] = {}
        self._sorted: list[Source] = []
        self._prefixes: dict[tuple[int, int], int] = {}

    def add(self, source: Source, owner: Owner) -> None:
        """Owners may be added to the same source more than once, and are removed as often."""
        if source not in self._owners:
            insort(self._sorted, source)
            key = (source.version, source.prefix)
            self._prefixes[key] = self._prefixes.get(key, 0) + 1
        self._owners.setdefault(source, []).append(owner)

    def remove(self, source: Source, owner: Owner) -> None:
        """Takes back one `add`."""
        owners = self._owners[source]
        owners.remove(owner)
        if owners:
            return
        del self._owners[source]
        del self._sorted[bisect_left(self._sorted, source)]
        key = (source.version, source.prefix)
        self._prefixes[key] -= 1
        if not self._prefixes[key]:
            del self._prefixes[key]

    def overlapping(self, source: Source) -> Iterator[tuple[Source, Owner]]:
        """All that one request could match together with `source`, itself included."""
        for other in self._near(source):
            if source.shares_with(other):
                for owner in self._owners[other]:
                    yield other, owner

    def _near(self, source: Source) -> Iterator[Source]:
        """The networks around `source`, then itself and those inside."""
        for version, prefix in list(self._prefixes):
            if version == source.version and prefix < source.prefix:
                shift = _bits(version) - prefix
                first = source.first >> shift << shift
                yield from self._range(Source(version, first, prefix, 0), Source(version, first, prefix + 1, 0))
        yield from self._range(source._replace(port=0), Source(source.version, source.last + 1, 0, 0))

    def _range(self, low: Source, high: Source) -> Iterator[Source]:
        index = bisect_left(self._sorted, low)
        while index < len(self._sorted) and self._sorted[index] < high:
            yield self._sorted[index]
            index += 1
