"""The units, as systemd's own tools read them; no service manager is started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
UNITS = sorted((ROOT / "ops" / "systemd").glob("*.service"))
MOST_EXPOSURE = 20
"""Tenths; systemd calls up to 2.0 OK, and most services are above 9."""


def here(unit: Path, tmp_path: Path) -> Path:
    """The unit with the paths of this tree, as systemd looks whether programs are there."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/tenantry", str(ROOT)))
    return copy


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_the_whole_unit(unit: Path, tmp_path: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(here(unit, tmp_path))], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_calls_it_well_hardened(unit: Path, tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSURE}", "--no-pager"]
    done = subprocess.run([*command, str(here(unit, tmp_path))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_what_the_edge_may_and_how_it_is_watched() -> None:
    of = settings(ROOT / "ops" / "systemd" / "sipd.service")
    assert of["Type"] == ["notify"]
    assert of["Restart"] == ["always"]
    assert of["NoNewPrivileges"] == of["MemoryDenyWriteExecute"] == ["yes"]
    assert of["ProtectSystem"] == ["strict"]
    assert of["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]
    assert of["SystemCallFilter"][0] == "@system-service"
    assert int(of["WatchdogSec"][0]) >= 10
    assert int(of["LimitNOFILE"][0]) == 65_536


def test_a_stop_has_time_for_the_drain() -> None:
    from sipd.config import TEXTS
    from sipd.drain import GOODBYE_SECONDS

    stop = int(settings(ROOT / "ops" / "systemd" / "sipd.service")["TimeoutStopSec"][0])
    assert stop > float(TEXTS["drain"]) + GOODBYE_SECONDS + 5
