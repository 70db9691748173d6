"""Limits of calls: whom each counts, what is answered, and that all is given back whatever happens to a call."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sipd.message.message import Message
from sipd.routing.model import Limits, OutboundRule, Tenant
from tests.unit.core.bench import Bench, End, connection, credentials
from tests.unit.core.house import House, acme, group, refuse

ONE = Limits(calls=1)


def counts(bench: Bench) -> dict[tuple[str, str, str], int]:
    """What counts now, without what does not end with a call."""
    return dict(bench.edge.calls_._core.limits._calls)


class TestWhoCounts:
    @pytest.mark.parametrize("scope", ["tenant", "connection", "user"])
    def test_a_call_from_the_pbx(self, scope: str) -> None:
        of_users = {"101": {"limits": ONE}} if scope == "user" else {}
        more = {"limits": ONE} if scope == "tenant" else {}
        on = House(acme(of_users, {"limits": ONE} if scope == "connection" else {}, **more))
        one = on.phone()
        on.rings()
        one.take("INVITE")
        on.rings()
        one.nothing()
        (refused,) = [m for m in on.pbx.taken() if m.status > 100]
        assert refused.status == (486 if scope == "user" else 503)
        assert refused.has("retry-after") == (scope != "user")
        assert on.refusals() == [f"limit-{scope}-calls"]

    def test_a_user_at_its_limit_is_busy_and_forwards_as_busy(self) -> None:
        on = House(acme({"101": {"limits": ONE, "forward_busy": "102"}}))
        one, two = on.phone(), on.phone("102")
        on.rings()
        one.take("INVITE")
        on.rings()
        assert "reason=user-busy" in two.take("INVITE").split("diversion")[0]

    def test_a_user_who_calls_is_busy_for_those_who_call(self) -> None:
        on = House(acme({"101": {"limits": ONE}}))
        one = on.phone()
        one.call("+49170")
        on.rings()
        one.nothing()
        assert on.told() == [486]

    def test_a_call_inside_counts_for_both_users(self) -> None:
        on = House(acme({"102": {"limits": ONE}}, {"internal_calls": "always_direct"}))
        one, two, three = on.phones()
        one.call("102")
        two.take("INVITE")
        three.call("102", extension="103")
        three.take(486)

    def test_a_call_through_the_same_pbx_in_and_out_counts_twice_there(self) -> None:
        on = House(acme({"101": {"forward_always": "+49170"}}, {"limits": ONE}))
        on.rings()
        assert on.told() == [181, 503]
        assert on.refusals() == ["limit-connection-calls"]
        assert counts(on.bench) == {}

    def test_who_forwards_is_free_again(self) -> None:
        on = House(acme({"101": {"limits": ONE, "forward_no_answer": "102", "ring_seconds": 5}}))
        one, two = on.phone(), on.phone("102")
        on.rings()
        one.answer(one.take("INVITE"), 180, "x")
        on.passes(5.1)
        one.take("CANCEL")
        two.take("INVITE")
        on.rings()
        assert [m.method for m in one.taken()] == ["INVITE"]

    def test_only_the_member_who_answers_counts(self) -> None:
        on = House(acme(groups=(group("all"),)))
        one, two, three = on.phones()
        on.rings("600")
        for phone in (one, two):
            phone.taken()
        three.answer(three.take("INVITE"), 200, "x")
        assert {scope for scope in counts(on.bench) if scope[0] == "user"} == {("user", "acme", "acme-103")}

    def test_a_connection_that_failed_is_free_again(self) -> None:
        second = connection("second", source="198.51.100.20", registrar_domain="second.example", strategy="none")
        rule = OutboundRule("out", 1, "", 0, "", "acme-pbx", fallback="second")
        made = acme()
        on = House(replace(made, connections=(*made.connections, second), outbound=(rule,)))
        one = on.phone()
        one.call("+49170")
        refuse(on.pbx, 500)
        assert {id_ for kind, _, id_ in counts(on.bench) if kind == "connection"} == {"second"}


class TestRate:
    @pytest.mark.parametrize("scope", ["tenant", "connection"])
    def test_calls_per_second(self, scope: str) -> None:
        two = Limits(calls_per_second=2)
        on = House(acme({}, {"limits": two}) if scope == "connection" else acme(limits=two))
        on.phone()
        for _ in range(3):
            on.rings()
        answers = [m for m in on.pbx.taken() if m.status > 100]
        assert [m.status for m in answers] == [503]
        assert answers[0].get("retry-after") == "1"
        assert on.refusals() == [f"limit-{scope}-rate"]
        on.passes(1)
        on.rings()
        assert on.refusals() == []

    def test_of_a_caller(self) -> None:
        on = House(acme({"101": {"limits": Limits(calls_per_second=1)}}))
        one = on.phone()
        one.call("+491")
        one.call("+492")
        assert one.take(503).get("retry-after") == "1"


# -- whatever happens, all is given back


def crowded() -> Tenant:
    """Everything that a call can meet, with limits low enough to be met."""
    few = Limits(calls=2)
    made = acme(
        {
            "101": {"limits": few, "forward_busy": "102", "forward_no_answer": "600", "ring_seconds": 8},
            "102": {"fork": "serial", "serial_seconds": 5, "ring_seconds": 12, "forward_unreachable": "+49170"},
            "103": {"limits": Limits(calls=1), "forward_busy": "+49170", "forward_no_answer": "101"},
        },
        {"internal_calls": "direct_when_possible", "limits": Limits(calls=5)},
        groups=(
            group("all", forward_no_answer="103", ring_seconds=9),
            group("round_robin", extension="700", member_seconds=5, forward_no_answer="102"),
        ),
        limits=Limits(calls=6),
    )
    second = connection(
        "second", source="198.51.100.20", registrar_domain="second.example", strategy="none", limits=few
    )
    rule = OutboundRule("out", 1, "", 0, "", "acme-pbx", fallback="second")
    return replace(made, connections=(*made.connections, second), outbound=(rule,))


class Crowd(House):
    """Ends that answer what they are asked to, whenever."""

    def __init__(self) -> None:
        super().__init__(crowded())
        self.second = self.bench.end("198.51.100.20")
        self.by_extension = {e: [self.phone(e, 1, "0.9"), self.phone(e, 2, "0.1")] for e in ("101", "102", "103")}
        self.ends = [self.pbx, self.second, *(p for phones in self.by_extension.values() for p in phones)]
        self.open: list[tuple[End, Message]] = []
        self.numbers = 0

    def look(self) -> None:
        """Take all that came; INVITEs stay open, a CANCEL is answered and ends its INVITE."""
        for end in self.ends:
            for message in end.taken():
                if message.status or message.method == "ACK":
                    continue
                if message.method == "INVITE":
                    self.open.append((end, message))
                    continue
                end.answer(message, 200, "x")
                if message.method == "CANCEL":
                    for entry in [e for e in self.open if e[1].call_id == message.call_id]:
                        self.open.remove(entry)
                        end.answer(entry[1], 487, "x")
        limits = counts(self.bench)
        assert limits == Counter(s for call in self.bench.edge.calls_.calls.values() for s in call.scopes)
        assert limits.get(("user", "acme", "acme-103"), 0) <= 1
        assert limits.get(("connection", "second"), 0) <= 2

    def step(self, what: str, which: int) -> None:
        targets = ("101", "102", "103", "600", "700", "+491")
        if what == "rings":
            self.rings(targets[which % 5])
        elif what == "calls":
            self.numbers += 1
            extension = ("101", "102", "103")[which % 3]
            phone, uri = self.by_extension[extension][0], f"sip:{targets[which % 6]}@acme.example"
            self.dials(phone, extension, uri)
        elif what == "passes":
            self.passes((1.0, 5.1, 9.1, 33.0)[which % 4])
        elif what == "ends" and self.bench.edge.calls_.calls:
            calls = list(self.bench.edge.calls_.calls.values())
            self.bench.edge.calls_.hang_up(calls[which % len(calls)], 487, "Gone", self.bench.now)
            self.bench.collect()
        elif what == "gives up":
            if self.asked:
                self.gives_up()
        elif self.open and what.isdigit():
            end, invite = self.open[which % len(self.open)]
            if int(what) >= 200:
                self.open.remove((end, invite))
            end.answer(invite, int(what), "x", Contact="<sip:101@acme.example>")

    def dials(self, phone: End, extension: str, uri: str) -> None:
        aor = f"sip:{extension}@acme.example"
        call_id = f"d{self.numbers}"
        more = {"Contact": f"<sip:{extension}@10.0.1.9:5062>"}
        phone.send(phone.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **more))
        challenge = next(m for m in phone.taken() if m.status == 401)
        more["Authorization"] = credentials(challenge, extension, "INVITE", uri)
        phone.send(phone.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **more))


STEPS = (
    "rings", "calls", "passes", "ends", "gives up",
    "180", "180", "200", "302", "404", "486", "486", "500", "503", "603",
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 11)), max_size=25))
def test_after_any_sequence_nothing_counts(steps: list[tuple[str, int]]) -> None:
    on = Crowd()
    for what, which in steps:
        on.step(what, which)
        on.look()
    for call in list(on.bench.edge.calls_.calls.values()):
        on.bench.edge.calls_.hang_up(call, 487, "Gone", on.bench.now)
    on.bench.collect()
    for _ in range(4):
        on.look()
        on.passes(40)
    assert counts(on.bench) == {}
    on.assert_nothing_left()
