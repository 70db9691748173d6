"""Event ids rise by one and never repeat; what is not fetched is bounded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from sipd import spool
from sipd.disk import Database
from sipd.spool import Spool


def opened(path: Path, limit: int = 1000, now: float = 0.0) -> tuple[Database, Spool, dict[str, int]]:
    counters: dict[str, int] = {}
    database = Database(path / "state.db", spool.SCHEMA)
    return database, Spool(database, counters, limit, clock=lambda: now), counters


def events(count: int) -> list[dict[str, Any]]:
    return [{"at": 1.5, "kind": "refused", "detail": {"number": number}} for number in range(count)]


def test_ids_rise_by_one(tmp_path: Path) -> None:
    _, found, _ = opened(tmp_path)
    found.append(events(2))
    found.append(events(1))
    assert [event["id"] for event in found.read(0, 10)] == [1, 2, 3]
    assert found.read(0, 10)[0] == {"id": 1, "at": 1.5, "kind": "refused", "detail": {"number": 0}}
    assert found.mark == (1, 4)


def test_read_goes_on_from_a_cursor_in_bounded_answers(tmp_path: Path) -> None:
    _, found, _ = opened(tmp_path)
    found.append(events(5))
    assert [event["id"] for event in found.read(2, 2)] == [3, 4]
    assert found.read(5, 10) == []
    assert found.read(0, -1) == []


def test_ids_go_on_after_a_restart_even_when_all_are_forgotten(tmp_path: Path) -> None:
    database, found, _ = opened(tmp_path)
    found.append(events(3))
    found.forget(3)
    assert found.mark == (4, 4)
    database.close()
    _, found, _ = opened(tmp_path)
    assert found.mark == (4, 4)
    found.append(events(1))
    assert [event["id"] for event in found.read(0, 10)] == [4]


def test_a_new_file_begins_above_all_ids_of_a_lost_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    _, old, _ = opened(tmp_path / "old", now=1_700_000_000.0)
    old.append(events(1000))
    _, new, _ = opened(tmp_path / "new", now=1_700_000_000.01)
    assert new.mark.next > old.mark.next


def test_the_oldest_are_dropped_and_counted(tmp_path: Path) -> None:
    _, found, counters = opened(tmp_path, limit=5)
    found.append(events(4))
    found.append(events(4))
    *_, last = kept = found.read(0, 10)
    assert [event["id"] for event in kept] == [4, 5, 6, 7, 8, 9]
    assert (found.mark, counters["spool.dropped"]) == ((4, 10), 3)
    assert (last["kind"], last["detail"]) == (
        "events.dropped", {"count": 3, "reason": "nobody came for them", "first": 1, "last": 3}
    )  # fmt: skip


def test_a_batch_longer_than_the_limit(tmp_path: Path) -> None:
    _, found, counters = opened(tmp_path, limit=5)
    found.append(events(20))
    assert [event["id"] for event in found.read(0, 100)] == [16, 17, 18, 19, 20, 21]
    assert counters["spool.dropped"] == 15


def test_forgetting_ahead_of_the_spool_takes_no_ids_away(tmp_path: Path) -> None:
    _, found, _ = opened(tmp_path)
    found.append(events(2))
    found.forget(1000)
    assert found.mark == (3, 3)


def test_forgetting_the_same_twice(tmp_path: Path) -> None:
    _, found, _ = opened(tmp_path)
    found.append(events(3))
    found.forget(2)
    found.forget(1)
    assert found.mark == (3, 4)


def test_a_rolled_back_append_gives_no_ids(tmp_path: Path) -> None:
    database, found, _ = opened(tmp_path)
    before = found.mark
    with suppress(LookupError), database.transaction():
        found.append(events(3))
        raise LookupError
    found.mark = before
    found.append(events(1))
    assert [event["id"] for event in found.read(0, 10)] == [1]


def test_an_event_that_is_too_long_keeps_its_keys(tmp_path: Path) -> None:
    _, found, _ = opened(tmp_path)
    found.append([{"at": 1.0, "kind": "refused", "rule": "source", "detail": {"uri": "x" * spool.EVENT_BYTES}}])
    (event,) = found.read(0, 1)
    assert (event["kind"], event["rule"]) == ("refused", "source")
    assert event["detail"] == {"cut": "more than 16384 bytes"}


def test_who_has_higher_ids_than_were_ever_given_gets_what_is_new_above_them(tmp_path: Path) -> None:
    """The end of the file was lost, with ids that the panel has: what came since would be taken for known."""
    _, found, counters = opened(tmp_path, now=1_700_000_000.0)
    found.append(events(3))
    known = found.mark.next + 4
    told, following = found.answer(known, 10)
    assert [event["id"] for event in told] == [known + 1, known + 2, known + 3]
    assert [event["detail"]["number"] for event in told] == [0, 1, 2]
    assert following == known + 3
    assert counters["spool.renumbered"] == 3
    found.append(events(1))
    assert [event["id"] for event in found.answer(following, 10)[0]] == [known + 4]
    again = opened(tmp_path)[1]
    assert again.mark.next == known + 5


def test_what_was_there_before_keeps_its_ids(tmp_path: Path) -> None:
    database, found, _ = opened(tmp_path, now=1_700_000_000.0)
    found.append(events(2))
    before = found.mark
    database.close()
    _, found, counters = opened(tmp_path, now=1_700_000_000.0)
    found.append(events(2))
    assert [event["id"] for event in found.answer(before.first, 10)[0]] == [before.first + n for n in (1, 2, 3)]
    assert counters["spool.renumbered"] == 0


def test_a_cursor_out_of_this_world_changes_nothing(tmp_path: Path) -> None:
    _, found, counters = opened(tmp_path, now=1_700_000_000.0)
    found.append(events(2))
    mark = found.mark
    assert found.answer(2**53 - 1, 10) == ([], 2**53 - 1)
    assert (found.mark.next, counters["spool.renumbered"]) == (mark.next, 0)


def test_an_event_that_the_disk_spoilt_is_told_as_lost(tmp_path: Path) -> None:
    database, found, counters = opened(tmp_path)
    found.append(events(3))
    database.connection.execute("UPDATE event SET body = replace(body, '1.5', '2.5') WHERE id = 2")
    kinds = [event["kind"] for event in found.read(0, 10)]
    assert kinds == ["refused", "events.dropped", "refused"]
    assert counters["spool.unreadable"] == 1


def test_an_hour_without_a_panel_at_a_hundred_events_a_second_is_kept(tmp_path: Path) -> None:
    """And is fetched in pages, each once and in order, while new ones come."""
    _, found, counters = opened(tmp_path, limit=spool.EVENT_LIMIT)
    bodies = [spool.encode(event) for event in events(1000)]
    for _ in range(360):
        found.append_encoded(bodies)
    cursor, fetched = found.mark.first - 1, 0
    while True:
        page, following = found.answer(cursor, spool.READ_LIMIT)
        assert [event["id"] for event in page] == list(range(cursor + 1, following + 1))
        fetched += len(page)
        if not page:
            break
        cursor = following
        if fetched == 100 * spool.READ_LIMIT:
            found.append_encoded(bodies[:7])
    assert (fetched, counters["spool.dropped"]) == (360_007, 0)
    assert found.mark.first > cursor - 2 * spool.FORGET_LIMIT
