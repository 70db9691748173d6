from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kamailio.registrar import KamailioRegistrar, kamailio_for_tests
from tests.integration.kamailio.sipp import Sipp


@pytest.fixture
def kamailio(tmp_path: Path) -> Iterator[KamailioRegistrar]:
    """A PBX with the domains acme.example and globex.example, both with users 101 and 102."""
    yield from kamailio_for_tests(tmp_path / "kamailio")


@pytest.fixture
def sipp(tmp_path: Path) -> Sipp:
    folder = tmp_path / "sipp"
    folder.mkdir()
    return Sipp(folder)
