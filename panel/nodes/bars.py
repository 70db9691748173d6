"""A small drawing of milliseconds: one bar for each publication. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 32
BAR = 6
GAP = 2
LEAST = 2
"""Height of the lowest bar, so that it is seen."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the drawing's units."""

    x: int
    y: int
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Bars:
    """A drawing; no bars, no width."""

    bars: list[Bar]
    label: str
    """What the drawing says, in words."""

    @property
    def width(self) -> int:
        return len(self.bars) * (BAR + GAP)


def bars(values: Sequence[tuple[int, float]]) -> Bars:
    """(version, milliseconds), the oldest first."""
    highest = max((ms for _, ms in values), default=0.0) or 1.0
    drawn = []
    for place, (version, ms) in enumerate(values):
        height = max(LEAST, round(HEIGHT * ms / highest))
        drawn.append(Bar(place * (BAR + GAP), HEIGHT - height, height, f"version {version}: {ms:.1f} ms"))
    middle = sorted(ms for _, ms in values)[len(values) // 2] if values else 0.0
    return Bars(drawn, f"{len(values)} publications, {middle:.1f} ms in the middle, {highest:.1f} ms at most")
