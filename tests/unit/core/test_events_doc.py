"""docs/architecture.md has a row for each kind of event, each stored kind, and each control request."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sipd import keeping, tollguard

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TELLERS = ("add", "_note", "_tell")
"""Methods that tell of an event: of the core, of the daemon, of bans."""
KIND = re.compile(r"[a-z]+\.[a-z]+|refused")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def calls_of(names: tuple[str, ...]) -> Iterator[ast.Call]:
    for path in sorted((ROOT / "sipd").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
                yield node


def texts(node: ast.Call) -> Iterator[str]:
    """Texts among its positional arguments, also those of which one is chosen."""
    for argument in node.args:
        for each in ast.walk(argument):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value


def test_every_kind_of_event_has_a_row() -> None:
    told = {text for call in calls_of(TELLERS) for text in texts(call) if KIND.fullmatch(text)}
    assert {"call.started", "refused", "source.banned", "node.started"} <= told
    rows = set(re.findall(r"`([a-z.]+)`", "".join(re.findall(r"^\| (`[^|]+)\|", section("Events"), re.MULTILINE))))
    assert told - rows == set()


def test_every_stored_kind_has_a_row() -> None:
    said = {text for call in calls_of(("change",)) for text in texts(call) if text.isalpha()}
    assert {"binding", "upstream", "relayed", "media"} <= said
    stored = said | {*keeping.KINDS, tollguard.KIND}
    rows = set(re.findall(r"^\| `([a-z.]+)` \|", section("What is stored"), re.MULTILINE))
    assert stored - rows == set()


def test_every_control_request_has_a_row() -> None:
    source = (ROOT / "sipd" / "requests.py").read_text(encoding="utf-8")
    offered = set(re.findall(r'^ {12}"([a-z-]+)": self\.[a-z_]+,$', source, re.MULTILINE))
    assert {"status", "bans", "drain"} <= offered
    assert offered - set(re.findall(r'"do":"([a-z-]+)"', section("Control channel"))) == set()
