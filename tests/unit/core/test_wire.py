"""Names in the core: how long an answer is used, what serves while the resolver is down, whom to expect over TLS."""

from __future__ import annotations

import pytest

from sipd import wire
from sipd.flow import Answer, Flow, Listener, Query, Target, TlsName
from sipd.message.errors import BadMessage
from sipd.settings import Settings
from sipd.wire import Wire, next_hop
from tests.unit.core.bench import found

UDP, TCP, TLS = (Listener(t, "192.0.2.1", 5060, "192.0.2.1", 5060) for t in ("udp", "tcp", "tls"))
QUERY = Query("pbx.example", 0, "udp")
A, B = found("198.51.100.1", ttl=60), found("198.51.100.2", ttl=60)


class Asking:
    """A wire, and what who asked for pbx.example was told."""

    def __init__(self, *listeners: Listener) -> None:
        self.wire = Wire(Settings(listeners or (UDP, TCP, TLS)), bytes)
        self.told: list[list[str]] = []

    def ask(self, now: float, host: str = "pbx.example", port: int = 0, transport: str = "udp") -> None:
        self.wire.find(host, port, transport, lambda flows, _: self.told.append([f.host for f in flows]), now)

    def looked_up(self) -> bool:
        taken, self.wire.lookups = self.wire.lookups, []
        assert len(taken) < 2
        return bool(taken)

    def asked(self, now: float) -> tuple[list[list[str]], bool]:
        """What is told at once, and whether a look-up begins."""
        self.told = []
        self.ask(now)
        return self.told, self.looked_up()


def test_who_asks_waits_for_the_first_answer_and_all_share_it() -> None:
    on = Asking()
    assert on.asked(0) == ([], True)
    on.ask(0)
    assert not on.looked_up()
    on.wire.resolved(QUERY, A, 1)
    assert on.told == [["198.51.100.1"], ["198.51.100.1"]]


def test_a_fault_in_one_takes_no_other_along() -> None:
    on = Asking()

    def faulty(flows: tuple[Flow, ...], now: float) -> None:
        raise ZeroDivisionError

    on.ask(0)
    on.wire.find("pbx.example", 0, "udp", faulty, 0)
    on.ask(0)
    with pytest.raises(ZeroDivisionError):
        on.wire.resolved(QUERY, A, 1)
    assert on.told == [["198.51.100.1"], ["198.51.100.1"]]


def test_an_answer_is_used_for_its_time() -> None:
    on = Asking()
    on.ask(0)
    on.looked_up()
    on.wire.resolved(QUERY, A, 0)
    assert on.asked(59.9) == ([["198.51.100.1"]], False)
    assert on.asked(60) == ([], True)
    on.wire.resolved(QUERY, B, 60)
    assert on.told == [["198.51.100.2"]]


@pytest.mark.parametrize(
    ("ttl", "used"),
    [(0.0, wire.MIN_TTL), (1.0, wire.MIN_TTL), (100.0, 100.0), (1e9, wire.MAX_TTL), (float("inf"), wire.MAX_TTL)],
)
def test_that_time_has_bounds(ttl: float, used: float) -> None:
    on = Asking()
    on.wire.resolved(QUERY, A._replace(ttl=ttl), 0)
    assert on.asked(used - 0.1) == ([["198.51.100.1"]], False)
    assert on.asked(used) == ([], True)


@pytest.mark.parametrize(("ttl", "used"), [(1.0, wire.MIN_NEGATIVE_TTL), (30.0, 30.0), (1e9, wire.MAX_NEGATIVE_TTL)])
def test_that_there_is_nothing_is_known_for_a_while(ttl: float, used: float) -> None:
    on = Asking()
    on.wire.resolved(QUERY, A, 0)
    on.wire.resolved(QUERY, Answer((), ttl), 100)  # the name is gone: no old answer serves
    assert on.asked(100 + used - 0.1) == ([[]], False)
    assert on.asked(100 + used) == ([], True)


class TestResolverDown:
    def test_the_last_good_answer_serves_and_is_refreshed_behind(self) -> None:
        on = Asking()
        on.wire.resolved(QUERY, A, 0)
        assert on.asked(60) == ([], True)
        on.wire.resolved(QUERY, Answer(), 64)
        assert on.told == [["198.51.100.1"]]
        assert on.asked(65) == ([["198.51.100.1"]], False)
        assert on.asked(64 + wire.FAILURE_LIFE) == ([["198.51.100.1"]], True)
        assert on.asked(64 + wire.FAILURE_LIFE + 1) == ([["198.51.100.1"]], False)  # asked already
        on.wire.resolved(QUERY, B, 71)
        assert on.asked(72) == ([["198.51.100.2"]], False)

    def test_not_for_ever(self) -> None:
        on = Asking()
        on.wire.resolved(QUERY, A, 0)
        on.wire.resolved(QUERY, Answer(), 60)
        on.wire.resolved(QUERY, Answer(), 60 + wire.MAX_STALE)
        assert on.asked(61 + wire.MAX_STALE) == ([[]], False)

    def test_without_a_good_answer_it_is_asked_again_soon(self) -> None:
        on = Asking()
        on.ask(0)
        on.looked_up()
        on.wire.resolved(QUERY, Answer(), 8)
        assert on.told == [[]]
        assert on.asked(8 + wire.FAILURE_LIFE - 0.1) == ([[]], False)
        assert on.asked(8 + wire.FAILURE_LIFE) == ([], True)


class TestLimits:
    def test_names_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wire, "MAX_NAMES", 3)
        on = Asking()
        for number in range(5):
            on.wire.resolved(Query(f"h{number}.example", 0, "udp"), A, number)
        on.ask(5, "h4.example")
        on.ask(5, "h0.example")
        assert on.told == [["198.51.100.1"]]
        assert [query.host for query in on.wire.lookups] == ["h0.example"]

    def test_requests_that_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wire, "MAX_WAITING", 2)
        on = Asking()
        for _ in range(3):
            on.ask(0)
        assert on.told == [[]]
        on.wire.resolved(QUERY, A, 1)
        assert on.told == [[], ["198.51.100.1"], ["198.51.100.1"]]
        on.told = []
        on.ask(61)
        assert on.told == []


class TestAddresses:
    @pytest.mark.parametrize(
        ("transport", "port", "expected"),
        [
            ("udp", 0, ("udp", 5060)), ("tcp", 5070, ("tcp", 5070)), ("tls", 0, ("tls", 5061)),
            ("auto", 0, ("udp", 5060)), ("sctp", 0, None),
        ],
    )  # fmt: skip
    def test_need_no_look_up(self, transport: str, port: int, expected: tuple[str, int] | None) -> None:
        on = Asking()
        got: list[tuple[Flow, ...]] = []
        on.wire.find("198.51.100.9", port, transport, lambda flows, _: got.append(flows), 0)
        assert not on.looked_up()
        assert [(f.transport, f.port) for f in got[0]] == ([expected] if expected else [])

    def test_without_udp_it_is_tcp(self) -> None:
        on = Asking(TCP)
        got: list[tuple[Flow, ...]] = []
        on.wire.find("198.51.100.9", 0, "auto", lambda flows, _: got.append(flows), 0)
        assert got[0][0].transport == "tcp"

    def test_only_targets_that_a_listener_reaches_each_once(self) -> None:
        on = Asking(UDP)
        answer = found("198.51.100.1:5060/tls", "198.51.100.1", "198.51.100.1", "198.51.100.2")
        on.wire.resolved(QUERY, Answer((*answer.targets, Target("2001:db8::1", 5060, "udp")), 60), 0)
        assert on.asked(0) == ([["198.51.100.1", "198.51.100.2"]], False)


def test_from_the_listener_that_the_peer_knows() -> None:
    second = Listener("udp", "192.0.2.2", 5060, "192.0.2.2", 5060)
    on = Asking(UDP, second)
    got: list[tuple[Flow, ...]] = []
    known = Flow("udp", "198.51.100.9", 5060, 1)
    on.wire.find("198.51.100.9", 5062, "udp", lambda flows, _: got.append(flows), 0, like=known)
    assert got == [(Flow("udp", "198.51.100.9", 5062, 1),)]


class TestTls:
    """RFC 5922 7.3: the name that was looked up, whatever DNS made of it."""

    ANSWER = found("198.51.100.1:5061/tls", "198.51.100.2:5061/tls")
    KEY = ("tls", "198.51.100.1", 5061)
    FLOW = Flow("tls", "198.51.100.1", 5061, 2)

    def test_the_name_that_was_looked_up(self) -> None:
        on = Asking()
        on.wire.find("pbx.example", 0, "tls", lambda flows, _: None, 0, verify=True)
        on.wire.resolved(Query("pbx.example", 0, "tls"), self.ANSWER, 0)
        assert on.wire.tls_names[self.KEY] == TlsName("pbx.example", verify=True)
        assert on.wire.tls_names["tls", "198.51.100.2", 5061] == TlsName("pbx.example", verify=True)

    def test_not_for_what_is_not_tls(self) -> None:
        on = Asking()
        on.wire.resolved(QUERY, A, 0)
        on.ask(0)
        assert on.wire.tls_names == {}

    def test_a_connection_says_whether_it_is_checked(self) -> None:
        on = Asking()
        for verify in (True, False):
            on.wire.find("198.51.100.1", 0, "tls", lambda flows, _: None, 0, verify=verify)
            assert on.wire.tls_names[self.KEY] == TlsName("198.51.100.1", verify=verify)

    def test_a_contact_changes_nothing_that_is_known(self) -> None:
        on = Asking()
        on.wire.find("198.51.100.1", 0, "tls", lambda flows, _: None, 0, verify=False)
        on.wire.find("198.51.100.1", 5061, "tls", lambda flows, _: None, 0, like=self.FLOW)
        assert on.wire.tls_names[self.KEY] == TlsName("198.51.100.1", verify=False)

    def test_an_address_that_a_peer_names_is_that_peer(self) -> None:
        on = Asking()
        on.wire.tls_names[self.KEY] = TlsName("pbx.example", verify=True)
        on.wire.find("198.51.100.7", 5061, "tls", lambda flows, _: None, 0, like=self.FLOW)
        assert on.wire.tls_names["tls", "198.51.100.7", 5061] == TlsName("pbx.example", verify=True)
        on.wire.find("unknown.example", 5061, "tls", lambda flows, _: None, 0, like=self.FLOW)
        on.wire.resolved(Query("unknown.example", 5061, "tls"), found("198.51.100.8:5061/tls"), 0)
        assert on.wire.tls_names["tls", "198.51.100.8", 5061] == TlsName("unknown.example", verify=True)

    def test_a_pbx_that_called_us_is_itself_where_its_contact_leads(self) -> None:
        on = Asking()
        caller = Flow("tls", "198.51.100.1", 43210, 2)
        on.wire.expect(caller, "pbx.example", verify=False)
        on.wire.find("198.51.100.1", 5061, "tls", lambda flows, _: None, 0, like=caller)
        assert on.wire.tls_names[self.KEY] == TlsName("pbx.example", verify=False)

    def test_it_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wire, "MAX_TLS_NAMES", 2)
        on = Asking()
        for number in range(5):
            on.wire.find(f"198.51.100.{number}", 0, "tls", lambda flows, _: None, 0, verify=True)
        assert [host for _, host, _ in on.wire.tls_names] == ["198.51.100.3", "198.51.100.4"]


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:pbx.example", ("pbx.example", 0, "udp")),
        ("sip:pbx.example:5070;transport=TCP", ("pbx.example", 5070, "tcp")),
        ("sip:x@pbx.example;maddr=192.0.2.9", ("192.0.2.9", 0, "udp")),
        ("sips:pbx.example", ("pbx.example", 0, "tls")),
        ("sips:pbx.example;transport=tcp", ("pbx.example", 0, "tls")),
        ("sips:pbx.example;transport=ws", ("pbx.example", 0, "wss")),
    ],
)
def test_where_a_uri_leads(uri: str, hop: tuple[str, int, str]) -> None:
    assert next_hop(uri) == hop


def test_another_scheme_leads_nowhere() -> None:
    with pytest.raises(BadMessage):
        next_hop("tel:+491")
