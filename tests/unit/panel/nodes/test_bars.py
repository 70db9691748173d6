"""The drawing of milliseconds."""

import pytest

from panel.nodes.bars import HEIGHT, LEAST, bars

pytestmark = pytest.mark.unit


def test_nothing_draws_nothing() -> None:
    assert bars([]).bars == []
    assert bars([]).width == 0


def test_the_highest_fills_the_height_and_none_vanishes() -> None:
    drawing = bars([(1, 100.0), (2, 0.0), (3, 50.0)])
    assert [bar.height for bar in drawing.bars] == [HEIGHT, LEAST, HEIGHT // 2]
    assert all(bar.y + bar.height == HEIGHT for bar in drawing.bars)
    assert drawing.label == "3 publications, 50.0 ms in the middle, 100.0 ms at most"


def test_all_zero() -> None:
    assert [bar.height for bar in bars([(1, 0.0)]).bars] == [LEAST]
