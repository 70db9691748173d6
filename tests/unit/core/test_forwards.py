"""Forwards, do-not-disturb and business hours: what the caller, the next phone and the PBX are told."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from sipd.flow import Answer
from sipd.history import last_index
from sipd.routing.lookup import compile_table
from sipd.routing.model import Number, Opening, Schedule
from tests.unit.core.bench import table
from tests.unit.core.house import House, acme, group, kinds, refuse

NEVER = Schedule("night", "Night", "Europe/Berlin", ())
ALWAYS = Schedule("day", "Day", "Europe/Berlin", tuple(Opening(day, "00:00", "24:00") for day in range(7)))


def forwarding(field: str, to: str = "102", **more: object) -> House:
    return House(acme({"101": {field: to, "ring_seconds": 10, **more}}))


class TestWhy:
    """Each reason as RFC 5806 and RFC 4458 name it, towards the phone that rings in the end."""

    def diverted(self, on: House, reason: str, cause: int) -> None:
        assert on.told()[-1] == 181
        invite = on.bench.end("203.0.0.102", 5062).take("INVITE")
        assert invite.split("diversion") == [f"<sip:101@acme.example>;reason={reason};counter=1"]
        first, second = invite.split("history-info")
        assert first.startswith(f"<sip:101@acme.example?Reason=SIP%3Bcause%3D{cause}%3B")
        assert first.endswith(">;index=1")
        assert second == f"<sip:102@acme.example;cause={cause}>;index=1.1;mp=1"

    def test_always(self) -> None:
        on = forwarding("forward_always")
        one, _ = on.phone(), on.phone("102")
        on.rings()
        one.nothing()
        self.diverted(on, "unconditional", 302)

    def test_busy(self) -> None:
        on = forwarding("forward_busy")
        one, _ = on.phone(), on.phone("102")
        on.rings()
        refuse(one, 486)
        self.diverted(on, "user-busy", 486)

    def test_no_answer(self) -> None:
        on = forwarding("forward_no_answer")
        one, _ = on.phone(), on.phone("102")
        on.rings()
        one.answer(one.take("INVITE"), 180, "one")
        on.passes(10.1)
        one.take("CANCEL")
        self.diverted(on, "no-answer", 408)

    def test_unreachable(self) -> None:
        on = forwarding("forward_unreachable")
        on.phone("102")
        on.rings()
        self.diverted(on, "unavailable", 503)

    def test_unreachable_as_no_phone_says_anything(self) -> None:
        on = forwarding("forward_unreachable")
        one, _ = on.phone(), on.phone("102")
        on.rings()
        one.take("INVITE")
        on.passes(10.1)
        self.diverted(on, "unavailable", 503)

    def test_do_not_disturb(self) -> None:
        on = forwarding("forward_busy", do_not_disturb=True)
        one, _ = on.phone(), on.phone("102")
        on.rings()
        one.nothing()
        self.diverted(on, "do-not-disturb", 486)

    def test_closed(self) -> None:
        on = House(acme({"101": {"schedule": "night", "forward_closed": "102"}}, schedules=(NEVER,)))
        one, _ = on.phone(), on.phone("102")
        on.rings()
        one.nothing()
        self.diverted(on, "time-of-day", 302)


class TestRefusals:
    """What is answered when there is a reason, but no forward."""

    @pytest.mark.parametrize(
        ("fields", "status", "rule"),
        [
            ({"do_not_disturb": True}, 486, "do-not-disturb"),
            ({"schedule": "night"}, 480, "closed"),
            ({"forward_always": "101"}, 480, "forward-loop"),
            ({"forward_always": "102"}, 480, "no-binding"),
        ],
    )
    def test_without_a_place_to_go(self, fields: dict[str, object], status: int, rule: str) -> None:
        on = House(acme({"101": fields}, schedules=(NEVER,)))
        one = on.phone()
        on.rings()
        one.nothing()
        assert on.told()[-1] == status
        assert on.refusals() == [rule]
        on.assert_nothing_left()

    def test_nobody_answers(self) -> None:
        on = House(acme({"101": {"ring_seconds": 10}}))
        one = on.phone()
        on.rings()
        one.answer(one.take("INVITE"), 180, "one")
        on.passes(10.1)
        assert on.told() == [180, 480]
        assert on.refusals() == ["no-answer"]

    def test_open(self) -> None:
        on = House(acme({"101": {"schedule": "day", "forward_closed": "102"}}, schedules=(ALWAYS,)))
        one = on.phone()
        on.rings()
        one.take("INVITE")

    def test_a_phone_without_an_outbound_rule_for_the_forward(self) -> None:
        on = House(acme({"101": {"forward_always": "+49170"}}, default_connection=""))
        on.rings()
        assert on.told()[-1] == 480
        assert on.refusals() == ["forward-nowhere"]


class TestChains:
    def test_each_forward_is_told_once_and_each_adds_to_the_history(self) -> None:
        of_users = {"101": {"forward_always": "102"}, "102": {"forward_busy": "103"}}
        on = House(acme(of_users))
        two, three = on.phone("102"), on.phone("103")
        on.rings()
        refuse(two, 486)
        invite = three.take("INVITE")
        assert on.told() == [181, 181]
        assert invite.split("diversion") == [
            "<sip:102@acme.example>;reason=user-busy;counter=1",
            "<sip:101@acme.example>;reason=unconditional;counter=1",
        ]
        assert [entry.rpartition(">;")[2] for entry in invite.split("history-info")] == [
            "index=1", "index=1.1;mp=1", "index=1.1.1;mp=1.1",
        ]  # fmt: skip
        three.answer(invite, 200, "three")
        (ended,) = [e for e in self.hung_up(on) if e["kind"] == "call.ended"]
        assert ended["user"] == "acme-103"
        assert ended["detail"]["rang"] == ["103"]  # type: ignore[index]
        assert ended["detail"]["forwards"] == ["101 unconditional 102", "102 user-busy 103"]  # type: ignore[index]
        on.assert_nothing_left()

    def hung_up(self, on: House) -> list[dict[str, object]]:
        ok = on.pbx.taken()[-1]
        on.pbx.send(on.pbx.within(ok, "ACK", 1))
        on.pbx.send(on.pbx.within(ok, "BYE", 2))
        return on.bench.events()

    def test_a_ring_of_forwards_ends(self) -> None:
        on = House(acme({e: {"forward_always": o} for e, o in (("101", "102"), ("102", "103"), ("103", "101"))}))
        on.rings()
        assert on.told() == [181, 181, 181, 480]
        assert on.refusals() == ["forward-loop"]
        on.assert_nothing_left()

    def test_user_to_group_to_user(self) -> None:
        sales = group("all", "102", forward_no_answer="103", ring_seconds=10)
        on = House(acme({"101": {"forward_always": "600"}}, groups=(sales,)))
        two, three = on.phone("102"), on.phone("103")
        on.rings()
        refuse(two, 486)
        invite = three.take("INVITE")
        assert [d.partition(";")[0] for d in invite.split("diversion")] == [
            "<sip:600@acme.example>", "<sip:101@acme.example>",
        ]  # fmt: skip
        three.answer(invite, 200, "3")
        assert on.told() == [181, 181, 200]

    def test_a_number_that_leads_elsewhere(self) -> None:
        on = House(acme(numbers=(Number("n", "+4930123", forward="102"),)))
        two = on.phone("102")
        on.rings("+4930123")
        invite = two.take("INVITE")
        assert invite.split("diversion") == ["<sip:+4930123@acme.example>;reason=unconditional;counter=1"]

    def test_a_closed_number_goes_where_it_says(self) -> None:
        number = Number("n", "+4930123", user="acme-101", schedule="night", forward_closed="102")
        on = House(acme(numbers=(number,), schedules=(NEVER,)))
        one, two = on.phone("101"), on.phone("102")
        on.rings("+4930123")
        one.nothing()
        assert "reason=time-of-day" in two.take("INVITE").split("diversion")[0]

    def test_no_more_than_allowed(self) -> None:
        of_users = {str(n): {"forward_always": str(n + 1)} for n in range(101, 103)}
        on = House(acme(of_users, numbers=tuple(Number(f"n{n}", f"7{n}", forward=f"7{n + 1}") for n in range(9))))
        on.rings("70")
        assert on.told() == [181] * 5 + [480]
        assert on.refusals() == ["forward-loop"]


class TestTheCallerIsTold:
    def test_not_with_181_when_it_did_not_ask_to_be(self) -> None:
        on = forwarding("forward_always")
        two = on.phone("102")
        on.rings(Supported="100rel")
        two.take("INVITE")
        assert on.told() == []

    def test_not_with_181_when_all_must_be_acknowledged(self) -> None:
        """RFC 3262 3: 18x other than reliable ones may not be sent then."""
        on = forwarding("forward_always")
        two = on.phone("102")
        on.rings(Require="100rel", Supported="histinfo")
        two.take("INVITE")
        assert on.told() == []

    def test_early_dialogs_differ(self) -> None:
        on = forwarding("forward_busy")
        one, two = on.phone(), on.phone("102")
        on.rings()
        invite = one.take("INVITE")
        one.answer(invite, 180, "one")
        one.answer(invite, 486, "one")
        second = two.take("INVITE")
        two.answer(second, 180, "two")
        two.answer(second, 200, "two")
        answers = [m for m in on.pbx.taken() if m.status > 100]
        assert kinds(answers) == [180, 181, 180, 200]
        tags = [m.to.tag for m in answers]
        assert len(set(tags)) == 3
        assert tags[2] == tags[3]

    def test_a_phone_is_told_too(self) -> None:
        on = House(acme({"102": {"forward_always": "103"}}, {"internal_calls": "always_direct"}))
        one, three = on.phones("101", "103")
        one.call("102", Supported="histinfo")
        one.take(181)
        assert three.take("INVITE").from_.uri_text == "sip:101@acme.example"


class TestThroughThePbx:
    OUT: ClassVar = {"101": {"forward_always": "+49170"}}

    def test_a_forward_out_names_who_forwards_and_what_was_before(self) -> None:
        on = House(acme(self.OUT))
        told = "<sip:7@pbx.example>;reason=no-answer;counter=2"
        on.rings(Diversion=told, History_Info="<sip:7@pbx.example>;index=1, <sip:101@pbx.example>;index=1.1")
        invite = next(m for m in on.pbx.taken() if m.method == "INVITE" and not m.status)
        assert invite.split("diversion") == ["<sip:101@acme.example>;reason=unconditional;counter=1", told]
        history = invite.split("history-info")
        assert history[:2] == ["<sip:7@pbx.example>;index=1", "<sip:101@pbx.example>;index=1.1"]
        assert [entry.rpartition(">;")[2] for entry in history[2:]] == ["index=1.1.1", "index=1.1.1.1;mp=1.1.1"]

    def test_a_phones_own_account_of_forwards_is_not_believed(self) -> None:
        on = House(acme({"102": {"forward_always": "+49170"}}, {"internal_calls": "always_direct"}))
        one = on.phone()
        one.call("102", Diversion="<sip:boss@acme.example>", History_Info="<sip:boss@acme.example>;index=1")
        invite = on.pbx.take("INVITE")
        assert "boss" not in invite.data.decode()
        assert len(invite.split("diversion")) == 1

    def test_a_loop_that_the_pbx_tells_of_ends(self) -> None:
        on = House(acme(self.OUT))
        on.rings(Diversion="<sip:7@pbx.example>;counter=10")
        assert on.told() == [480]
        assert on.refusals() == ["forward-loop"]

    def test_a_loop_that_the_pbx_hides_ends(self) -> None:
        """Each turn is a new call from the account of who forwards: ten at a time, unanswered, are enough."""
        on = House(acme(self.OUT))
        on.rings(from_="sip:101@pbx.example")
        turns = 0
        while any(m.method == "INVITE" and not m.status for m in on.pbx.taken()):
            turns += 1
            on.rings(from_="sip:101@pbx.example")
        assert turns == 10
        assert on.refusals() == ["forward-loop"]
        on.passes(200)
        on.assert_nothing_left()

    def test_a_loop_of_a_number_that_the_pbx_hides_ends(self) -> None:
        on = House(acme(numbers=(Number("n", "+4930123", forward="+49170"),)))
        turns = 0
        while turns < 20:
            on.rings("+4930123", from_="sip:anonymous@pbx.example")
            if not any(m.method == "INVITE" and not m.status for m in on.pbx.taken()):
                break
            turns += 1
        assert turns == 10
        assert on.refusals() == ["forward-loop"]

    def test_answered_forwards_do_not_count_as_a_loop(self) -> None:
        on = House(acme(self.OUT))
        for _ in range(12):
            on.rings()
            invite = next(m for m in on.pbx.taken() if m.method == "INVITE" and not m.status)
            on.pbx.answer(invite, 200, "t")
        assert on.refusals() == []

    @pytest.mark.parametrize("bad", ['"', "<sip:x", "<sip:x>;counter=x", "<sip:x>;counter=99999999999999999", ";;;"])
    def test_an_account_of_forwards_that_cannot_be_read(self, bad: str) -> None:
        on = House(acme({"101": {"forward_no_answer": "102", "ring_seconds": 10}}))
        one, two = on.phone(), on.phone("102")
        on.rings(Diversion=bad, History_Info=bad)
        one.answer(one.take("INVITE"), 180, "x")
        on.passes(10.1)
        assert two.taken() or on.told()[-1] == 480
        on.assert_nothing_left()


class TestCrossings:
    def test_cancel_while_forwarding(self) -> None:
        on = forwarding("forward_busy")
        one, two = on.phone(), on.phone("102")
        on.rings()
        refuse(one, 486)
        invite = two.take("INVITE")
        on.gives_up()
        assert on.told() == [181, 200, 487]
        two.answer(invite, 180, "two")
        two.take("CANCEL")
        two.answer(invite, 487, "two")
        on.assert_nothing_left()

    def test_cancel_while_the_forwards_pbx_is_looked_up(self) -> None:
        on = House(acme({"101": {"forward_always": "+49170"}}, {"host": "pbx.example"}))
        on.rings()
        on.gives_up()
        assert on.told() == [181, 200, 487]
        for query in on.bench.edge.lookups_to_start():
            on.bench.edge.resolved(query, Answer((), 5.0), on.bench.now)
        on.bench.collect()
        on.assert_nothing_left()

    def test_an_answer_at_the_moment_of_the_time_out(self) -> None:
        on = forwarding("forward_no_answer")
        one, two = on.phone(), on.phone("102")
        on.rings()
        invite = one.take("INVITE")
        one.answer(invite, 180, "one")
        on.passes(10.1)
        one.take("CANCEL")
        one.answer(invite, 200, "one")
        assert kinds(one.taken()) == ["ACK", "BYE"]
        two.answer(two.take("INVITE"), 200, "two")
        assert on.told() == [180, 181, 200]

    def test_another_table_in_the_middle(self) -> None:
        """A call goes on as it was decided; the next one goes by the new table."""
        on = forwarding("forward_no_answer")
        one, two, three = on.phones()
        on.rings()
        one.answer(one.take("INVITE"), 180, "one")
        on.bench.edge.load(compile_table(table(acme({"101": {"forward_no_answer": "103"}}))), on.bench.now)
        on.passes(10.1)
        two.take("INVITE")
        three.nothing()
        on.gives_up()
        on.assert_nothing_left()

    def test_the_user_is_gone_from_the_table_meanwhile(self) -> None:
        on = forwarding("forward_no_answer")
        one, two = on.phone(), on.phone("102")
        on.rings()
        one.answer(one.take("INVITE"), 180, "one")
        gone = acme()
        on.bench.load(table(replace(gone, users=gone.users[:1])))
        on.passes(10.1)
        two.nothing()  # its binding went with it
        assert on.told()[-1] == 480
        on.assert_nothing_left()


@pytest.mark.parametrize(
    ("entry", "index"),
    [
        ("<sip:x@y>;index=1.2.3", "1.2.3"),
        ("<sip:x@y>;index=1.2;mp=1", "1.2"),
        ("<sip:x>", "1"),
        ("<sip:x>;index=x", "1"),
    ],
)
def test_the_index_that_is_continued(entry: str, index: str) -> None:
    assert last_index([entry]) == index
