"""What commands print, and how they find their node."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sipd import commands, config
from sipd.__main__ import listed, parser

ROWS = [
    {"since": 1_700_000_000, "from": "sip:+49301234567890@pbx.example", "to": "sip:101@acme.example", "id": "x" * 60}
]


@pytest.mark.parametrize("columns", [40, 80, 100, 120, 500])
def test_rows_fit_into_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = io.StringIO()
    commands.print_rows("traces", commands.TRACES, [{**ROWS[0], "rule": "r" * 100, "kind": "k" * 50}] * 3, out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "3 traces"
    assert all(len(line) <= max(80, columns) for line in lines)
    assert lines[2].endswith("x" * 23 + "~")


def test_names_are_shown_instead_of_ids() -> None:
    out = io.StringIO()
    row = {"tenant": "7f3", "tenant_slug": "acme", "user": "9a1", "extension": "101", "contact": "sip:1@x\x1b[2J\r\n"}
    commands.print_rows("bindings", commands.BINDINGS, [row], out)
    shown = out.getvalue()
    assert "acme" in shown
    assert "101" in shown
    assert "7f3" not in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "ago"), [("30s", 30), ("10m", 600), ("2h", 7200), ("3d", 259_200), ("0s", 0)]
)  # fmt: skip
def test_since(text: str, ago: int) -> None:
    assert commands.parse_since(text, 1_000_000.0) == 1_000_000 - ago


def test_since_as_a_time_and_as_nonsense() -> None:
    assert commands.parse_since("2026-01-31T08:00:00+00:00", 0) == 1_769_846_400
    for wrong in ("", "h", "-5m", "10", "yesterday", "9999-99-99", "²h"):
        with pytest.raises(commands.UnreadableError, match="is no time"):
            commands.parse_since(wrong, 0)


def test_the_control_socket_is_found_as_the_node_finds_it(tmp_path: Path) -> None:
    file = tmp_path / "sipd.toml"
    file.write_text('state = "/srv/sipd"\n')
    assert config.find_control({}, {}) == Path("sipd-state/control.sock")
    assert config.find_control({"config": str(file)}, {}) == Path("/srv/sipd/control.sock")
    assert config.find_control({"config": str(file)}, {"TENANTRY_STATE": "/a"}) == Path("/a/control.sock")
    assert config.find_control({"state": "/b"}, {"TENANTRY_STATE": "/a"}) == Path("/b/control.sock")
    assert config.find_control({"state": "/b"}, {"TENANTRY_CONTROL": "/c"}) == Path("/c")
    assert config.find_control({"control": "/d"}, {"TENANTRY_CONTROL": "/c"}) == Path("/d")


def test_what_is_asked_for() -> None:
    asked = parser().parse_args(["trace", "--number", "4930", "--code", "4", "--limit", "7", "--kind", "call"])
    assert listed(asked) == {"do": "traces", "limit": 7, "number": "4930", "code": 4, "kind": "call"}
    assert listed(parser().parse_args(["trace", "--last", "3"])) == {"do": "traces", "limit": 3}


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (90, "1 min 30 s"), (7260, "2 h 1 min"), (200_000, "2 d 7 h")]
)
def test_lasting(seconds: float, text: str) -> None:
    assert commands.lasting(seconds) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trace", "maybe"), ("trace_sample", "2"), ("trace_sample", "nan"), ("trace_bodies", "some"),
        ("trace_megabytes", "-1"), ("trace_days", "x"),
    ],
)  # fmt: skip
def test_settings_of_traces_are_checked(name: str, value: str) -> None:
    with pytest.raises(config.ConfigError, match=f'{name} "{value}"'):
        config.load({name: value}, {})


def test_settings_of_traces() -> None:
    flags = {"trace": "off", "trace_sample": "0.5", "trace_bodies": "none", "trace_megabytes": "0", "trace_days": "1.5"}
    found = config.load(flags, {})
    assert (found.trace, found.trace_sample) == (False, 0.5)
    assert (found.keeping.bodies, found.keeping.megabytes, found.keeping.days) == ("none", 0, 1.5)


def test_status_names_each_media_relay() -> None:
    answer = {
        "version": 0, "hash": "", "uptime": 1.0, "spool": {"first": 0, "next": 0}, "refused_hash": "", "counters": {},
        "media": [
            {"address": "udp:192.0.2.8:2223", "up": True, "since": 0.0, "sessions": 3},
            {"address": "udp:192.0.2.9:2223", "up": False, "since": 0.0, "sessions": 0},
        ],
    }  # fmt: skip
    out = io.StringIO()
    commands.status(answer, out)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("media")]
    assert "udp:192.0.2.8:2223 up since" in lines[0]
    assert lines[0].endswith("3 sessions")
    assert "udp:192.0.2.9:2223 DOWN since" in lines[1]
