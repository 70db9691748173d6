"""The soak of `make soak`, for as long as a test may take: too short for memory, and for the last timers to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.run import Sample, soak


@pytest.mark.parametrize("seed", [1])
def test_mixed_traffic_over_a_bad_network_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    result = soak(tmp_path, 1500, seed, drain=5.0)
    assert result.transactions >= 1500
    assert result.lost > 10
    assert result.twice > 10
    assert result.started > 100
    assert list(replace(result, samples=[Sample(0, 1, 1)] * 4, left={}).problems()) == []
    assert result.left["calls"] == 0
