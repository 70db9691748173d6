"""Lines of the log: their two forms, what has a line, how many there may be, and what is never in them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sipd.logs import BURST, EventLog, JsonFormatter, LogfmtFormatter, quoted

REFUSED = {
    "kind": "refused", "tenant": "t-1", "rule": "unknown-user", "detail": {
        "code": 404, "reason": "Not Found", "method": "INVITE", "source": "udp:10.0.0.1:5060",
        "uri": "sip:9@acme.example", "call_id": "abc@host",
    },
}  # fmt: skip


class Lines(logging.Handler):
    """What was logged, in both forms."""

    def __init__(self) -> None:
        super().__init__()
        self.logfmt: list[str] = []
        self.json: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.logfmt.append(LogfmtFormatter().format(record))
        line = JsonFormatter().format(record)
        assert "\n" not in line
        self.json.append(json.loads(line))


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("sipd.events")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield handler
    logger.removeHandler(handler)
    logger.setLevel("NOTSET")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def events(clock: Time | None = None, *, calls: bool = False) -> EventLog:
    return EventLog(clock or Time(), {"t-1": "acme"}.__getitem__, calls=calls)


def test_a_refusal_says_call_id_tenant_and_rule(lines: Lines) -> None:
    events().take([REFUSED])
    at = lines.json[0].pop("at")
    assert at.endswith("Z")
    assert len(at) == 24
    assert lines.json == [{
        "level": "info", "from": "sipd.events", "message": "refused", "call_id": "abc@host", "tenant": "acme",
        "rule": "unknown-user", "method": "INVITE", "code": 404, "reason": "Not Found",
        "source": "udp:10.0.0.1:5060", "uri": "sip:9@acme.example",
    }]  # fmt: skip
    assert lines.logfmt[0].endswith(
        "level=info from=sipd.events refused call_id=abc@host tenant=acme rule=unknown-user method=INVITE code=404 "
        'reason="Not Found" source=udp:10.0.0.1:5060 uri=sip:9@acme.example'
    )


def test_a_failed_registration_has_a_line_and_a_good_one_has_none(lines: Lines) -> None:
    def changed(state: str) -> dict[str, Any]:
        return {"kind": "registration.changed", "tenant": "t-1", "user": "u", "connection": "c",
                "detail": {"state": state, "code": 403, "reason": "Forbidden"}}  # fmt: skip

    events().take([changed("registered"), changed("refused"), changed("unreachable"), changed("trying")])
    assert [(line["message"], line["state"]) for line in lines.json] == [
        ("registration failed", "refused"), ("registration failed", "unreachable"),
    ]  # fmt: skip
    assert (lines.json[0]["user"], lines.json[0]["connection"]) == ("u", "c")


def test_bans_stopped_tolls_and_silent_pbxs_have_lines(lines: Lines) -> None:
    events().take([
        {"kind": "source.banned", "detail": {"source": "10.0.0.9", "reason": "rate", "seconds": 60, "times": 1}},
        {"kind": "toll.stopped", "tenant": "t-1", "user": "u", "detail": {"call": "c", "prefix": "00", "count": 9}},
        {"kind": "pbx.down", "tenant": "t-1", "detail": {"address": "udp:10.0.0.1:5060", "reason": "silent"}},
        {"kind": "binding.added", "tenant": "t-1", "detail": {}},
    ])  # fmt: skip
    assert [line["message"] for line in lines.json] == ["source banned", "toll stopped", "pbx down"]
    assert (lines.json[1]["tenant"], lines.json[1]["call"], lines.json[1]["prefix"]) == ("acme", "c", "00")


def test_calls_have_lines_when_that_is_asked_for(lines: Lines) -> None:
    begun = {"kind": "call.started", "tenant": "t-1", "detail": {"call": "c1", "direction": "in", "from": "sip:1@x"}}
    over = {"kind": "call.ended", "tenant": "t-1", "detail": {"call": "c1", "code": 200, "by": "caller"}}
    events().take([begun, over])
    assert not lines.json
    events(calls=True).take([begun, over])
    assert [(line["message"], line["call"]) for line in lines.json] == [("call started", "c1"), ("call ended", "c1")]


def test_a_flood_is_counted_instead_of_written(lines: Lines) -> None:
    clock = Time()
    of = events(clock)
    of.take([REFUSED] * 10_000)
    assert len(lines.json) == BURST
    of.tick()
    assert len(lines.json) == BURST
    clock.now += 1
    of.tick()
    assert (lines.json[-1]["message"], lines.json[-1]["count"]) == ("lines suppressed", 10_000 - BURST)
    clock.now += 1
    of.tick()
    assert len(lines.json) == BURST + 1


def test_a_peer_writes_no_line_of_its_own_and_no_password(lines: Lines) -> None:
    bad = json.loads(json.dumps(REFUSED))
    bad["detail"]["call_id"] = 'x\nat=2030 level=error "forged" \x1b[2J'
    bad["detail"]["uri"] = "sip:bob:hunter2@acme.example"
    bad["detail"]["reason"] = "r" * 5000
    events().take([bad])
    assert "\n" not in lines.logfmt[0]
    assert "\x1b" not in lines.logfmt[0]
    assert "hunter2" not in lines.logfmt[0] + str(lines.json)
    assert len(lines.logfmt[0]) < 1000


@pytest.mark.parametrize(
    ("value", "written"),
    [("a", "a"), ("", '""'), ("a b", '"a b"'), ('"', '"\\""'), ("a=b", '"a=b"'), ("ü", '"\\u00fc"'), (3, "3")],
)
def test_values_are_quoted_where_they_must(value: object, written: str) -> None:
    assert quoted(value) == written


def test_an_error_shows_how_it_came_but_no_password() -> None:
    try:
        raise ValueError("cannot read sip:bob:hunter2@acme.example")
    except ValueError:
        record = logging.LogRecord("sipd", logging.ERROR, __file__, 1, "it\nbroke", None, sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "it\nbroke"
    assert "ValueError" in line["traceback"]
    first, *rest = LogfmtFormatter().format(record).splitlines()
    assert first.endswith("it?broke")
    assert "ValueError" in rest[-1]
    assert "hunter2" not in str(line) + str(rest)
