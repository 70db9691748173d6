"""The media relays themselves: health, choice, fail-over, lost datagrams, and sessions that are deleted for certain."""

from __future__ import annotations

import pytest

from sipd import media
from sipd.media import NO_RELAY, REFUSED, MediaRelays, Result, Session
from tests.unit.core.bench import End
from tests.unit.core.rtpengine import SDP, MediaHouse, kept, marked, relayed


class Asking:
    """Offers and answers to the relays of a bench, without calls."""

    def __init__(self, relays: int = 1) -> None:
        self.house = MediaHouse(relays=relays)
        self.bench = self.house.bench
        self.media: MediaRelays = self.bench.edge.media
        self.results: list[Result] = []
        self.bench.collect()

    def open(self) -> Session:
        return self.media.open("call")

    def offer(self, session: Session) -> None:
        self._ask(self.media.offer, session)

    def answer(self, session: Session) -> None:
        self._ask(self.media.answer, session)

    def _ask(self, ask: object, session: Session) -> None:
        fields = {"sdp": SDP.encode(), "from-tag": "caller", "to-tag": "callee"}
        ask(session, fields, lambda result, now: self.results.append(result), self.bench.now)  # type: ignore[operator]
        self.bench.collect()

    def end(self, session: Session) -> None:
        self.media.end(session, self.bench.now)
        self.bench.collect()

    def states(self) -> list[bool]:
        return [one["up"] for one in self.bench.edge.media_relays()]


def test_an_instance_is_down_after_pings_without_answer_and_up_with_the_next_one() -> None:
    asking = Asking()
    asking.house.relay.up = False
    asking.house.passes((media.MISSES - 1) * 5 + media.PING_SECONDS - 1)
    assert asking.states() == [True]
    asking.house.passes(5 + media.PING_SECONDS)
    assert asking.states() == [False]
    down = asking.bench.events("media.down")
    assert [event["detail"] for event in down] == [{"address": "udp:192.0.2.8:2223"}]
    since = asking.bench.edge.media_relays()[0]["since"]
    assert asking.bench.now - 7 < since <= asking.bench.now
    asking.house.relay.up = True
    asking.house.passes(6)
    assert asking.states() == [True]
    assert len(asking.bench.events("media.up")) == 1


def test_the_ping_comes_as_often_as_it_is_set() -> None:
    asking = Asking()
    asking.house.relay.lose = lambda: asking.results.append(b"ping") or False  # type: ignore[func-returns-value]
    asking.house.passes(50)
    assert len(asking.results) == 2 * 10


def test_lost_datagrams_are_repeated_with_the_same_cookie() -> None:
    asking = Asking()
    lost = [True, False, True, False, False]  # the first request; the second's answer
    asking.house.relay.lose = lambda: lost.pop(0) if lost else False
    asking.offer(asking.open())
    asking.house.passes(1)
    assert asking.results == [marked(0, "answer", SDP)]
    assert asking.house.relay.commands() == ["offer"], "done once, answered twice"


def test_sessions_go_where_the_fewest_are_and_in_turn() -> None:
    asking = Asking(relays=3)
    sessions = [asking.open() for _ in range(7)]
    for session in sessions[:6]:
        asking.offer(session)
    assert [len(relay.sessions) for relay in asking.bench.relays] == [2, 2, 2]
    for session in (sessions[1], sessions[4]):
        asking.end(session)
    asking.offer(sessions[6])
    assert [len(relay.sessions) for relay in asking.bench.relays] == [2, 1, 2]


def test_one_instance_for_the_whole_of_a_call() -> None:
    """Catches: the phones of a fork at several instances, when all are offered before the first is answered."""
    house = MediaHouse(relays=3)
    for relay in house.bench.relays:
        relay.holding = True
    phones: list[End] = [house.phone("101", place) for place in range(4)]
    house.rings()
    house.bench.release()
    assert all(phone.taken() for phone in phones)
    assert sorted(len(relay.sessions) for relay in house.bench.relays) == [0, 0, 4]


def test_an_offer_without_answer_goes_to_the_next_instance_and_the_silent_one_is_down() -> None:
    asking = Asking(relays=2)
    asking.bench.relays[0].up = False
    session = asking.open()
    asking.offer(session)
    asking.house.passes(sum(media.REPEAT_SECONDS))
    assert asking.results == [marked(1, "answer", SDP)]
    for _ in range(3):
        asking.offer(asking.open())
    assert asking.results == 4 * [marked(1, "answer", SDP)], "the next ones lose no time there"
    asking.house.passes(media.PING_SECONDS)
    assert asking.states() == [False, True]


def test_an_sdp_that_an_instance_stumbles_over_takes_none_down() -> None:
    """Catches: one caller who takes all media relays away with one odd INVITE."""
    asking = Asking(relays=2)
    for relay in asking.bench.relays:
        relay.deaf_to = SDP.encode()
    asking.offer(asking.open())
    asking.house.passes(20)
    assert asking.results == [NO_RELAY]
    assert asking.states() == [True, True]
    assert not asking.bench.events("media.down")
    for relay in asking.bench.relays:
        relay.deaf_to = None
    asking.offer(asking.open())
    assert len(asking.results) == 2
    assert asking.results[-1] != NO_RELAY


def test_a_caller_waits_for_three_instances_at_most() -> None:
    asking = Asking(relays=5)
    for relay in asking.bench.relays:
        relay.deaf_to = SDP.encode()
    asking.offer(asking.open())
    asking.house.passes(media.TRIES * sum(media.REPEAT_SECONDS) + 0.1)
    assert asking.results == [NO_RELAY]
    assert [one["sessions"] for one in asking.bench.edge.media_relays()].count(1) == media.TRIES


def test_an_sdp_that_is_too_long_is_refused_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_SDP", len(SDP) - 1)
    house = MediaHouse()
    house.phone()
    house.rings()
    house.pbx.take(100)
    house.pbx.take(488)
    assert house.relay.commands() == []


@pytest.mark.parametrize("said", [{"result": "load limit"}, {"result": "error", "error-reason": "Ran out of ports"}])
def test_an_instance_without_room_stays_up_and_the_next_one_is_asked(said: dict[str, str]) -> None:
    asking = Asking(relays=2)
    asking.bench.relays[0].refusing = said
    asking.offer(asking.open())
    assert asking.results == [marked(1, "answer", SDP)]
    assert asking.states() == [True, True]


def test_why_there_is_no_answer() -> None:
    asking = Asking(relays=2)
    for relay in asking.bench.relays:
        relay.refusing = {"result": "error", "error-reason": "Failed to parse SDP"}
    asking.offer(asking.open())
    for relay in asking.bench.relays:
        relay.refusing, relay.up = None, False
    asking.offer(asking.open())
    asking.house.passes(60)
    asking.offer(asking.open())
    assert asking.results == [REFUSED, NO_RELAY, NO_RELAY]
    assert asking.bench.edge.counters["media.failures"] == 3


def test_an_answer_belongs_where_its_offer_was() -> None:
    asking = Asking(relays=2)
    session = asking.open()
    asking.answer(session)
    asking.offer(session)
    asking.answer(session)
    there = next(relay for relay in asking.bench.relays if relay.sessions)
    assert asking.results == [NO_RELAY, *2 * [marked(there.number, "answer", SDP)]]
    there.up = False
    asking.answer(session)
    asking.house.passes(5)
    assert asking.results[-1] == NO_RELAY


def test_a_session_is_deleted_after_what_is_under_way() -> None:
    """Catches: a delete that overtakes its offer, whose repetition makes the session anew."""
    asking = Asking()
    asking.house.relay.up = False
    session = asking.open()
    asking.offer(session)
    asking.end(session)
    asking.house.relay.up = True
    asking.house.passes(10)
    assert asking.house.relay.commands() == ["offer", "delete"]
    assert asking.house.relay.sessions == {}


def test_an_instance_that_was_down_is_told_of_what_ended_meanwhile() -> None:
    asking = Asking()
    sessions = [asking.open() for _ in range(3 * media.DELETES_AT_ONCE)]
    for session in sessions:
        asking.offer(session)
    asking.house.relay.up = False
    asking.house.passes(60)
    for session in sessions:
        asking.end(session)
    asking.end(sessions[0])
    assert len(asking.house.relay.sessions) == len(kept(asking.bench)) == len(sessions)
    asking.house.relay.up = True
    asking.house.passes(10)
    asking.house.assert_all_deleted()
    assert asking.house.relay.commands().count("delete") == len(sessions)


def test_only_so_many_deletes_wait_at_once() -> None:
    asking = Asking()
    sessions = [asking.open() for _ in range(2 * media.DELETES_AT_ONCE)]
    for session in sessions:
        asking.offer(session)
    asking.house.relay.holding = True
    for session in sessions:
        asking.end(session)
    assert len(asking.house.relay.held) == media.DELETES_AT_ONCE
    asking.bench.release()
    asking.house.assert_all_deleted()


def test_what_is_owed_to_a_dead_instance_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_OWED", 3)
    asking = Asking()
    sessions = [asking.open() for _ in range(5)]
    for session in sessions:
        asking.offer(session)
    asking.house.relay.up = False
    asking.house.passes(60)
    for session in sessions:
        asking.end(session)
    assert asking.bench.edge.counters["media.deletes_dropped"] == 2
    assert len(kept(asking.bench)) == 3


def test_requests_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_ASKED", 2)
    asking = Asking()
    asking.house.relay.holding = True
    sessions = [asking.open() for _ in range(3)]
    for session in sessions:
        asking.offer(session)
    assert asking.results == [NO_RELAY]
    assert asking.bench.edge.counters["media.full"] == 1
    assert asking.states() == [True], "that there is no room here says nothing about the instance"
    for session in sessions:
        asking.end(session)
    asking.bench.release()
    asking.house.assert_all_deleted()


def test_what_others_send_is_counted_and_dropped() -> None:
    asking = Asking(relays=2)
    asking.house.relay.holding = True
    asking.offer(asking.open())
    (reply,) = asking.house.relay.held
    for datagram, number in ((b"junk", 0), (b"cookie d6:result2:oke", 0), (reply, 1)):
        asking.bench.edge.media_received(datagram, number, asking.bench.now)
    counters = asking.bench.edge.counters
    assert (counters["media.malformed"], counters["media.stray"], asking.results) == (1, 2, [])
    asking.bench.release()
    assert asking.results == [marked(0, "answer", SDP)]
    assert not asking.bench.edge.faults


def test_a_session_of_a_call_that_goes_on_after_a_restart_is_adopted() -> None:
    asking = Asking(relays=2)
    session = asking.open()
    asking.offer(session)
    stored = kept(asking.bench)
    assert session.instance is not None
    again = Asking(relays=2)
    again.bench.relays = asking.bench.relays
    edge = type(again.bench.edge)(again.bench.settings, again.bench.edge.core.cipher, again.bench.random)
    again.bench.edge, again.media = edge, edge.media
    edge.restore([("media", key, value) for key, value in stored.items()], again.bench.now)
    adopted = edge.media.adopt(session.id, session.instance.address, "call")
    edge.load(asking.bench.edge.compiled, again.bench.now)
    again.house.passes(media.LEFT_SECONDS)
    assert [one["sessions"] for one in edge.media_relays()].count(1) == 1
    again.answer(adopted)
    assert not isinstance(again.results[0], media.Failure)
    again.end(adopted)
    assert all(not relay.sessions for relay in asking.bench.relays)


def test_sessions_at_an_instance_that_is_no_longer_set_are_forgotten() -> None:
    house = MediaHouse(relays=1)
    edge = type(house.bench.edge)(house.bench.settings, house.bench.edge.core.cipher, house.bench.random)
    edge.restore([("media", "udp:192.0.2.99:2223 gone", {"call": "c"})], house.bench.now)
    edge.load(house.bench.edge.compiled, house.bench.now)
    edge.handle_timer(house.bench.now + media.LEFT_SECONDS)
    assert ("media", "udp:192.0.2.99:2223 gone", None) in edge.take_changes()


def test_status_and_counters() -> None:
    house = MediaHouse(relayed())
    house.talk(house.phone())
    (status,) = house.bench.edge.media_relays()
    assert status == {"address": "udp:192.0.2.8:2223", "up": True, "since": house.bench.now, "sessions": 1}
    counters = house.bench.edge.counters
    assert (counters["media.sessions"], counters["media.offers"], counters["media.failures"]) == (1, 1, 0)
