"""Traces on disk: found and read again, bounded, and no trouble of the disk reaches who hands them over."""

from __future__ import annotations

import json
import logging
import sqlite3
import zlib
from pathlib import Path

import pytest

from sipd.flow import Flow
from sipd.trace import Batch, Trace, TraceLimits, Tracer
from sipd.traces import FIND_LIMIT, QUEUE_LIMIT, Keeping, TraceStore, Wanted

FLOW = Flow("udp", "192.0.2.1", 5060, 0)
NOW = 1_700_000_000.0


def store(path: Path, counters: dict[str, int] | None = None, now: float = NOW, **keeping: object) -> TraceStore:
    kept = Keeping(**keeping)  # type: ignore[arg-type]
    return TraceStore(path / "traces.db", {} if counters is None else counters, kept, lambda: now)


def message(call_id: str, size: int = 0, line: str = "") -> bytes:
    return (
        f"MESSAGE sip:101@acme.example SIP/2.0\r\nFrom: <sip:7@x>\r\nCall-ID: {call_id}\r\n{line}\r\n".encode()
        + bytes(size)
    )


def batch(name: str, data: bytes | None = None, since: float = NOW, **about: object) -> Batch:
    tracer = Tracer(limits=TraceLimits(total_bytes=10**9))
    tracer.received(message(name) if data is None else data, FLOW, since, name, [])
    (made,) = tracer.take(since, everything=True)
    made.about.update(about)
    return made


def put(
    path: Path, *batches: Batch, counters: dict[str, int] | None = None, now: float = NOW, **keeping: object
) -> None:
    """One life of a store."""
    with_disk = store(path, counters, now, **keeping)
    with_disk.put(list(batches))
    with_disk.close()


def ids(path: Path, **wanted: object) -> list[str]:
    return [about["id"] for about in store(path).find(Wanted(**wanted))]  # type: ignore[arg-type]


def test_what_is_put_is_found_and_read_in_another_life(tmp_path: Path) -> None:
    put(tmp_path, batch("a"), batch("b", since=NOW + 1))
    assert ids(tmp_path) == ["b", "a"]
    kept = store(tmp_path).read("a")
    assert kept is not None
    assert kept.about["from"] == "sip:7@x"
    assert [m["text"] for m in kept.messages] == [message("a").decode()]
    assert store(tmp_path).read("nobody") is None


def test_pieces_of_one_trace_come_together(tmp_path: Path) -> None:
    first, second = batch("a"), batch("a", message("a", line="X-Second: 1\r\n"))
    second.about["code"] = 404
    put(tmp_path, first)
    put(tmp_path, second)
    kept = store(tmp_path).read("a")
    assert kept is not None
    assert len(kept.messages) == 2
    assert kept.about["code"] == 404


def test_a_piece_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    put(tmp_path, batch("a"))
    said = {"no": 0, "at": NOW, "way": "in", "flow": "udp:192.0.2.1:5060", "listener": 0, "leg": 0, "text": "as it was"}
    body = zlib.compress(json.dumps({"messages": [said], "steps": []}).encode(), 1)
    with sqlite3.connect(tmp_path / "traces.db") as connection:
        connection.execute("UPDATE piece SET body = ?", (body,))
    kept = store(tmp_path).read("a")
    assert kept is not None
    assert kept.messages == [said]


def test_filters_are_the_same_in_memory_and_on_disk(tmp_path: Path) -> None:
    rows = [
        batch("a", tenant="t1", user="u1", code=404, since=NOW),
        batch("b", tenant="t2", user="u2", code=486, since=NOW + 10),
        batch("c", tenant="t1", user="u3", code=200, kind="call", since=NOW + 20),
    ]
    for row, since in zip(rows, (NOW, NOW + 10, NOW + 20), strict=True):
        row.about["since"] = since
    put(tmp_path, *rows)
    for wanted in (
        Wanted(tenant="t1"), Wanted(user="u2"), Wanted(code=4), Wanted(code=404), Wanted(kind="call"),
        Wanted(since=NOW + 5), Wanted(before=NOW + 10), Wanted(number="101"), Wanted(number="999"), Wanted(tenant=""),
    ):  # fmt: skip
        on_disk = {about["id"] for about in store(tmp_path).find(wanted)}
        in_memory = {row.about["id"] for row in rows if wanted.takes(as_trace(row))}
        assert on_disk == in_memory, wanted
    assert len(store(tmp_path).find(Wanted(limit=2))) == 2
    assert FIND_LIMIT >= 2


def as_trace(row: Batch) -> Trace:
    about = row.about
    trace = Trace(about["id"], about["kind"], about["since"])
    trace.tenant, trace.user, trace.code = about["tenant"], about["user"], about["code"]
    trace.from_text, trace.to_text = about["from"], about["to"]
    return trace


def test_the_oldest_go_and_strangers_push_no_call_out(tmp_path: Path) -> None:
    counters: dict[str, int] = {}
    calls = [batch(f"call{n}", kind="call", since=NOW + n) for n in range(20)]
    noise = [batch(f"n{n}", message(f"n{n}") + random_bytes(n, 30_000), since=NOW + n) for n in range(100)]
    put(tmp_path, *calls, *noise, counters=counters, megabytes=1, bodies="all")
    assert len(ids(tmp_path, kind="call", limit=500)) == 20
    others = ids(tmp_path, kind="request", limit=500)
    assert 0 < len(others) < 50
    assert others[0] == "n99"
    assert counters["traces.removed"] == 100 - len(others)
    assert (tmp_path / "traces.db").stat().st_size <= 1024 * 1024


def random_bytes(seed: int, size: int) -> bytes:
    import random

    return random.Random(seed).randbytes(size).hex().encode()[:size]


def test_the_too_old_go(tmp_path: Path) -> None:
    put(tmp_path, batch("old", since=NOW - 8 * 86_400), batch("new"), days=7)
    put(tmp_path, batch("newer"), now=NOW + 4000, days=7)
    assert ids(tmp_path) == ["newer", "new"] or set(ids(tmp_path)) == {"newer", "new"}
    with sqlite3.connect(tmp_path / "traces.db") as connection:
        assert {name for (name,) in connection.execute("SELECT trace FROM leg")} == {"newer", "new"}
        assert {name for (name,) in connection.execute("SELECT trace FROM piece")} == {"newer", "new"}


def test_no_secret_is_on_disk_or_left_in_memory(tmp_path: Path) -> None:
    line = 'Authorization: Digest username="1", response="0123456789abcdef"\r\n'
    one = batch("a", message("a", line=line))
    put(tmp_path, one)
    assert b"0123456789abcdef" not in one.messages[0].data
    assert all(b"0123456789abcdef" not in path.read_bytes() for path in tmp_path.iterdir())
    without = batch("b", message("b", line=line))
    put(tmp_path, without, megabytes=0)
    assert b"0123456789abcdef" not in without.messages[0].data
    assert ids(tmp_path) == ["a"]


def test_a_broken_file_is_replaced_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "traces.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    counters: dict[str, int] = {}
    assert ids(tmp_path) == []
    with caplog.at_level(logging.ERROR):
        put(tmp_path, batch("a"), counters=counters)
    assert ids(tmp_path) == ["a"]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert [path.name for path in tmp_path.iterdir() if "broken" in path.name] == []


def test_a_file_that_cannot_be_made_is_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counters: dict[str, int] = {}
    with caplog.at_level(logging.ERROR):
        nowhere = store(tmp_path / "nowhere", counters)
        for number in range(3):
            nowhere.put([batch(f"a{number}")])
        nowhere.close()
    assert counters["traces.unstored"] == 3
    assert len([r for r in caplog.records if "cannot be stored" in r.getMessage()]) == 1
    assert nowhere.find(Wanted()) == []


def test_a_slow_disk_holds_nobody_up(tmp_path: Path) -> None:
    counters: dict[str, int] = {}
    slow = store(tmp_path, counters)
    slow._queue.put(None)  # its thread ends
    slow._thread.join()
    for number in range(QUEUE_LIMIT + 5):
        slow.put([batch(f"a{number}")])
    assert counters["traces.unstored"] == 5


def test_registrations_are_rings_on_disk_too(tmp_path: Path) -> None:
    for number in range(30):
        put(tmp_path, batch("r", kind="registration", messages=number))
    kept = store(tmp_path).read("r")
    assert kept is not None
    assert len(kept.messages) == 10


def test_the_same_call_id_of_two_tenants_stays_two_traces(tmp_path: Path) -> None:
    put(tmp_path, batch("a", message("a", line="X-Of: acme\r\n"), tenant="acme"))
    put(tmp_path, batch("a", message("a", line="X-Of: globex\r\n"), tenant="globex"))
    for tenant in ("acme", "globex"):
        kept = store(tmp_path).read("a", tenant)
        assert kept is not None
        assert [f"X-Of: {tenant}" in m["text"] for m in kept.messages] == [True]
    assert store(tmp_path).read("a", "initech") is None
