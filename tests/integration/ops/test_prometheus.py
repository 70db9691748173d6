"""Alert rules and the example configuration, as Prometheus' own tool reads and tries them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "ops" / "prometheus"
RULES = (FOLDER / "alerts.yml").read_text()


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_promtool_finds_nothing(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_says_what_it_is_and_what_to_do_and_is_tried() -> None:
    names = re.findall(r"- alert: (\w+)", RULES)
    assert len(set(names)) == len(names) >= 12
    for field in ("summary", "action", "severity"):
        assert len(re.findall(rf"\b{field}: \S", RULES)) == len(names)
    tried = (FOLDER / "alerts_test.yml").read_text()
    assert not [name for name in names if f'alertname="{name}"' not in tried]
