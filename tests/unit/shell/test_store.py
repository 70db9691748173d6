"""State survives restarts, torn files and failing disks."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sipd.disk import Database
from sipd.store import RETRY_SECONDS, Store
from sipd.tables import Refused, StoredTable, TableStore


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(path: Path, clock: Clock | None = None) -> tuple[Store, dict[str, int]]:
    counters: dict[str, int] = {}
    return Store(path / "state.db", counters, clock or Clock()), counters


@contextmanager
def disk_full(store: Store) -> Iterator[None]:
    """The file may grow no further."""
    connection = store._database.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    yield
    connection.execute("PRAGMA max_page_count=1000000")


BIG = {"contact": "sip:" + "x" * 20_000}


def test_changes_and_events_survive(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    assert store.commit([("binding", "b/1", {"user": "u1"}), ("binding", "b/2", {"user": "u2"})], [{"kind": "x"}])
    assert store.commit([("binding", "b/2", None), ("upstream", "b/1", {"cseq": 4})], [])
    again, _ = opened(tmp_path)  # the first one is not closed: as after kill -9
    assert sorted(again.changes()) == [("binding", "b/1", {"user": "u1"}), ("upstream", "b/1", {"cseq": 4})]
    assert [event["kind"] for event in again.spool.read(0, 10)] == ["x"]


def test_nothing_to_do_is_no_commit(tmp_path: Path) -> None:
    store, counters = opened(tmp_path)
    assert store.commit([], [])
    assert counters["store.commits"] == 0


def test_the_file_is_private(tmp_path: Path) -> None:
    opened(tmp_path)
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("torn", ["junk", "middle", "short"])
def test_a_torn_file_is_set_aside(tmp_path: Path, torn: str, caplog: pytest.LogCaptureFixture) -> None:
    store, _ = opened(tmp_path)
    for number in range(200):
        store.commit([("binding", str(number), BIG)], [{"kind": "x"}])
    last = store.spool.mark.next
    store.close()
    path = tmp_path / "state.db"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "junk": b"this is no database at all" * 100,
            "middle": whole[:8192] + b"\xff" * (len(whole) - 8192),
            "short": whole[: len(whole) // 2],
        }[torn]
    )
    store, _ = opened(tmp_path)
    assert store.changes() == []
    assert "state file set aside" in caplog.text
    assert len(list(tmp_path.glob("state.db.broken-*"))) == 1
    assert store.commit([("binding", "1", {})], [{"kind": "y"}])
    assert store.spool.read(0, 1)[0]["id"] >= last


def test_few_broken_files_are_kept(tmp_path: Path) -> None:
    for _ in range(5):
        (tmp_path / "state.db").write_bytes(b"junk" * 1000)
        opened(tmp_path)[0].close()
    assert len(list(tmp_path.glob("state.db.broken-*"))) == 3


def test_a_directory_in_place_of_the_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    store, _ = opened(tmp_path)
    assert store.commit([("binding", "1", {})], [])


def test_a_record_that_is_no_json_is_left_out(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.commit([("binding", "1", {"a": 1}), ("binding", "2", {"b": 2})], [])
    store._database.connection.execute("UPDATE state SET record = '{' WHERE key = '1'")
    assert store.changes() == [("binding", "2", {"b": 2})]


def test_what_cannot_be_encoded_stops_nothing(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    assert store.commit([("binding", "1", {"a": b"bytes"}), ("binding", "2", {"b": "\udcff"})], [{"kind": object()}])
    assert store.changes() == [("binding", "2", {"b": "\udcff"})]


def test_disk_trouble_goes_on_from_memory_and_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    store, counters = opened(tmp_path, clock)
    store.commit([("binding", "1", {"a": 1})], [{"kind": "x"}])
    mark = store.spool.mark
    with disk_full(store):
        assert not store.commit([("binding", "1", None), ("binding", "2", BIG)], [{"kind": "y"}])
        assert not store.commit([("binding", "3", BIG)], [{"kind": "z"}])
        assert store.spool.mark == mark
        clock.now += RETRY_SECONDS
        assert not store.commit([], [])
    assert caplog.text.count("store failed") == 1
    assert counters["store.failures"] == 2
    assert store.changes() == [("binding", "1", {"a": 1})]
    clock.now += RETRY_SECONDS
    assert store.commit([], [])
    assert sorted(key for _, key, _ in store.changes()) == ["2", "3"]
    assert [event["kind"] for event in store.spool.read(0, 10)] == ["x", "y", "z"]
    assert [event["id"] for event in store.spool.read(0, 10)] == [mark.first, mark.next, mark.next + 1]
    assert "store works again" in caplog.text


def test_what_waits_for_the_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipd.store.WAITING_CHANGES", 2)
    monkeypatch.setattr("sipd.store.WAITING_EVENTS", 2)
    clock = Clock()
    store, counters = opened(tmp_path, clock)
    with disk_full(store):
        for number in range(5):
            assert not store.commit([("binding", str(number), BIG)], [{"kind": str(number)}])
    assert counters["store.dropped"] == 6
    clock.now += RETRY_SECONDS
    assert store.commit([], [])
    assert sorted(key for _, key, _ in store.changes()) == ["3", "4"]
    lost, *others = store.spool.read(0, 10)
    assert (lost["kind"], lost["detail"]["count"]) == ("events.dropped", 3)
    assert [event["kind"] for event in others] == ["3", "4"]
    assert store.to_be_filled, "what was dropped of the state is asked for again"


def broken() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def test_a_file_that_breaks_at_run_time_is_replaced_with_what_can_be_read(tmp_path: Path) -> None:
    clock = Clock()
    store, _ = opened(tmp_path, clock)
    store.commit([("binding", "1", {"a": 1})], [{"kind": "x"}])
    before = store.spool.mark
    store._changes["binding", "2"] = "{}"
    store._failed(broken())
    assert store.lacking
    assert not store.to_be_filled
    clock.now += RETRY_SECONDS
    assert store.commit([], [{"kind": "y"}])
    assert sorted(store.changes()) == [("binding", "1", {"a": 1}), ("binding", "2", {})]
    assert [(event["id"], event["kind"]) for event in store.spool.read(0, 9)] == [
        (before.first, "x"),
        (before.next, "y"),
    ]
    assert store.state(0.0)["state"] == "ok"
    assert store.to_be_filled


def test_without_a_directory_it_is_kept_in_memory_until_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, place = Clock(), tmp_path / "later"
    store, counters = opened(place, clock)
    assert not store.commit([("binding", "1", {"a": 1}), ("binding", "2", {"b": 2})], [{"kind": "x"}])
    assert not store.commit([("binding", "2", None)], [{"kind": "y"}])
    state = store.state(100.0)
    assert (state["state"], state["file"], state["since"]) == ("failing", False, 100.0)
    assert state["waiting"] == {"changes": 1, "events": 2}
    assert "unable to open" in state["error"]
    told, following = store.events(0, 10)
    assert [event["kind"] for event in told] == ["x", "y"]
    place.mkdir()
    clock.now += RETRY_SECONDS
    assert store.commit([("binding", "3", {"c": 3})], [{"kind": "z"}])
    assert store.state(100.0)["state"] == "ok"
    again, _ = opened(place)
    assert sorted(key for _, key, _ in again.changes()) == ["1", "3"]
    assert [event["kind"] for event in again.events(following, 10)[0]] == ["z"]
    assert caplog.text.count("store failed") == 1
    assert "store works again" in caplog.text
    assert counters["store.failures"] >= 1


def test_a_file_that_is_removed_is_written_anew(tmp_path: Path) -> None:
    clock = Clock()
    store, _ = opened(tmp_path, clock)
    store.commit([("binding", "1", {"a": 1})], [{"kind": "x"}])
    for path in tmp_path.iterdir():
        path.unlink()
    store.look()
    assert store.lacking
    clock.now += RETRY_SECONDS
    assert store.commit([("binding", "1", {"a": 1})], [{"kind": "y"}])
    assert opened(tmp_path)[0].changes() == [("binding", "1", {"a": 1})]


def test_a_full_disk_is_no_reason_to_set_a_file_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = opened(tmp_path)
    store.commit([("binding", "1", {"a": 1})], [{"kind": "x"}])
    store.close()

    def refuse(database: Database) -> sqlite3.Connection:
        if database.path is None:
            return real(database)
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    with monkeypatch.context() as patched:
        real = Database._open
        patched.setattr(Database, "_open", refuse)
        found, _ = opened(tmp_path)
    assert found.changes() == [("binding", "1", {"a": 1})]
    assert not list(tmp_path.glob("*.broken-*"))
    assert opened(tmp_path)[0].changes() == [("binding", "1", {"a": 1})]
    assert found.in_memory


RECORDS = {str(number): {"contact": f"sip:{number}@10.0.0.{number}", "expires": 1e9 + number} for number in range(300)}


def spoil(data: bytes, draw: random.Random) -> bytes:
    """A file cut off anywhere, or with bytes changed anywhere, or a piece of it zeroed."""
    kind = draw.choice(("cut", "flip", "zero"))
    at = draw.randrange(len(data))
    if kind == "cut":
        return data[:at]
    if kind == "zero":
        return data[:at] + bytes(min(4096, len(data) - at)) + data[at + 4096 :]
    spoilt = bytearray(data)
    for _ in range(draw.randint(1, 20)):
        spoilt[draw.randrange(len(data))] ^= draw.randint(1, 255)
    return bytes(spoilt)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("which", ["state.db", "state.db-wal"])
def test_whatever_is_done_to_the_files_it_opens_and_what_it_gives_is_true(
    tmp_path: Path, which: str, seed: int
) -> None:
    draw = random.Random(seed)
    origin = tmp_path / "origin"
    origin.mkdir()
    store, _ = opened(origin)
    for key, record in list(RECORDS.items())[:150]:
        store.commit([("binding", key, record)], [{"kind": "x", "detail": {"key": key}}])
    store._database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for key, record in list(RECORDS.items())[150:]:
        store.commit([("binding", key, record)], [{"kind": "x", "detail": {"key": key}}])
    (tmp_path / "state.db").write_bytes((origin / "state.db").read_bytes())
    (tmp_path / "state.db-wal").write_bytes((origin / "state.db-wal").read_bytes())
    path = tmp_path / which
    path.write_bytes(spoil(path.read_bytes(), draw))
    found, counters = opened(tmp_path)
    changes = found.changes()
    assert all(RECORDS[key] == record for _, key, record in changes)
    assert len({key for _, key, _ in changes}) == len(changes)
    for event in found.spool.read(0, 500):
        assert event["kind"] == "events.dropped" or event["detail"]["key"] in RECORDS
    assert found.commit([("binding", "new", {})], [{"kind": "y"}])
    assert found.spool.read(0, 500)[-1]["kind"] == "y"
    if which == "state.db-wal" and not counters["store.failures"]:
        assert len(changes) >= 150  # what was in the file is not touched by a torn log


def test_of_a_file_with_one_broken_page_the_rest_is_kept(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store.commit([("binding", key, record) for key, record in RECORDS.items()], [{"kind": "x"}])
    store._database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    path = tmp_path / "state.db"
    data = bytearray(path.read_bytes())
    place = data.index(b'"sip:150@')
    page = place // 4096 * 4096
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(data)
    kept = {key for _, key, _ in opened(tmp_path)[0].changes()}
    assert len(kept) > 200
    assert "150" not in kept


def test_a_record_that_the_disk_changed_is_left_out(tmp_path: Path) -> None:
    store, counters = opened(tmp_path)
    store.commit([("binding", "1", {"expires": 1000}), ("binding", "2", {"expires": 2000})], [])
    store._database.connection.execute("UPDATE state SET record = replace(record, '1000', '9000')")
    assert store.changes() == [("binding", "2", {"expires": 2000})]
    assert counters["store.unreadable"] == 1


def test_what_an_earlier_release_stored_without_a_sum_is_read(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    store._database.connection.execute("INSERT INTO state VALUES ('binding', '1', '{\"a\":1}')")
    store._database.connection.execute('INSERT INTO event (id, body) VALUES (1, \'{"kind":"x"}\')')
    assert store.changes() == [("binding", "1", {"a": 1})]
    assert store.spool.read(0, 1) == [{"id": 1, "kind": "x"}]


def test_a_table_is_kept_in_memory_until_there_is_a_file(tmp_path: Path) -> None:
    place = tmp_path / "later"
    tables = TableStore(place / "table.db")
    assert tables.read() is None
    with pytest.raises(sqlite3.Error):
        tables.open_again()
    place.mkdir()
    tables.open_again()
    assert tables.missing({"a", "b"}) == {"a", "b"}
    tables.keep(StoredTable(1, 10.0, "0.1", b"m1", {"a": b"A", "b": b"B"}), {"a", "b"})
    assert tables.missing({"a", "c"}) == {"c"}
    assert TableStore(place / "table.db").read() == StoredTable(1, 10.0, "0.1", b"m1", {"a": b"A", "b": b"B"})


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_done_to_a_tables_file_it_opens(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    tables = TableStore(tmp_path / "table.db")
    parts = {hashlib.sha256(body).hexdigest(): body for body in (b"%d" % n * 700 for n in range(40))}
    tables.keep(StoredTable(3, 10.0, "0.1", b"manifest", parts), set(parts))
    tables._database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    tables.close()
    path = tmp_path / "table.db"
    path.write_bytes(spoil(path.read_bytes(), draw))
    again = TableStore(path)
    with suppress(sqlite3.Error, TypeError, ValueError):
        stored = again.read()
        assert stored is None or {parts.get(name) for name in stored.parts} - {None} <= set(parts.values())
    with suppress(sqlite3.Error):  # broken: a new one is begun, and it works the second time
        again.keep(StoredTable(4, 11.0, "0.1", b"next", parts), set(parts))
    again.keep(StoredTable(4, 11.0, "0.1", b"next", parts), set(parts))
    assert TableStore(path).read() == StoredTable(4, 11.0, "0.1", b"next", parts)


def test_the_last_good_table(tmp_path: Path) -> None:
    tables = TableStore(tmp_path / "table.db")
    assert tables.read() is None
    tables.keep(StoredTable(1, 10.0, "0.1", b"m1", {"a": b"A", "b": b"B"}), {"a", "b"})
    tables.keep(StoredTable(2, 20.0, "0.2", b"m2", {"c": b"C"}), {"b", "c"})
    stored = TableStore(tmp_path / "table.db").read()
    assert stored == StoredTable(2, 20.0, "0.2", b"m2", {"b": b"B", "c": b"C"})


def test_the_refused_hash(tmp_path: Path) -> None:
    tables = TableStore(tmp_path / "table.db")
    assert tables.refused() is None
    tables.remember_refused(Refused("h1", "0.1.0", [{"path": "x"}]))
    tables.remember_refused(Refused("h2", "0.1.0", [{"path": "y"}]))
    assert TableStore(tmp_path / "table.db").refused() == Refused("h2", "0.1.0", [{"path": "y"}])
