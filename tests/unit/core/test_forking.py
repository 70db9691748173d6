"""A user with several phones: who rings when, and which answer the caller gets (RFC 3261 16.6, 16.7)."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.unit.core.bench import ack_of
from tests.unit.core.house import House, acme, kinds, refuse


class TestParallel:
    def test_all_phones_ring_whatever_their_q(self) -> None:
        on = House()
        first, second = on.phone(place=1, q="0.9"), on.phone(place=2, q="0.1")
        on.rings()
        first.take("INVITE")
        second.take("INVITE")

    @pytest.mark.parametrize(
        ("answers", "told"),
        [
            ((486, 480), 486),
            ((480, 486), 486),
            ((404, 484), 484),
            ((404, 415), 415),
            ((500, 404), 404),
            ((503, 503), 500),
            ((503, 488), 488),
            ((408, 404), 404),
        ],
    )
    def test_the_answer_that_tells_the_caller_most_is_passed_on(self, answers: tuple[int, int], told: int) -> None:
        on = House()
        phones = on.phone(place=1), on.phone(place=2)
        on.rings()
        for phone, status in zip(phones, answers, strict=True):
            refuse(phone, status)
        assert on.told() == [told]
        on.assert_nothing_left()

    def test_a_6xx_speaks_for_all_phones_of_the_user(self) -> None:
        on = House()
        one, two = on.phone(place=1), on.phone(place=2)
        on.rings()
        two_invite = two.take("INVITE")
        two.answer(two_invite, 180, "two")
        refuse(one, 603)
        two.take("CANCEL")
        assert on.told() == [180, 603]
        two.answer(two_invite, 487, "two")
        on.assert_nothing_left()

    def test_two_phones_answer_at_once(self) -> None:
        on = House()
        one, two = on.phone(place=1), on.phone(place=2)
        on.rings()
        first, second = one.take("INVITE"), two.take("INVITE")
        one.answer(first, 200, "one")
        two.answer(second, 200, "two")
        ok = on.pbx.taken()[-1]
        assert kinds(two.taken()) == ["ACK", "BYE"]
        on.pbx.send(on.pbx.within(ok, "ACK", 1))
        one.take("ACK")
        on.pbx.send(on.pbx.within(ok, "BYE", 2))
        one.answer(one.take("BYE"), 200)
        on.assert_nothing_left()

    def test_a_phone_that_never_says_anything_is_unreachable(self) -> None:
        on = House()
        phone = on.phone()
        on.rings()
        phone.take("INVITE")
        on.passes(33)  # timer B
        assert on.told()[0] == 408
        assert on.refusals() == ["unreachable"]


class TestSerial:
    SERIAL: ClassVar = {"101": {"fork": "serial", "serial_seconds": 10, "ring_seconds": 25}}

    def test_one_after_the_other_by_q(self) -> None:
        on = House(acme(self.SERIAL))
        low, high, middle = on.phone(place=1, q="0.1"), on.phone(place=2, q="0.9"), on.phone(place=3, q="0.5")
        on.rings()
        low.nothing()
        middle.nothing()
        refuse(high, 486)
        invite = middle.take("INVITE")
        middle.answer(invite, 180, "m")
        on.passes(10.1)
        middle.take("CANCEL")
        middle.answer(invite, 487, "m")
        third = low.take("INVITE")
        low.answer(third, 200, "low")
        assert on.told() == [180, 200]

    def test_ring_seconds_bound_the_whole(self) -> None:
        on = House(acme(self.SERIAL))
        phones = [on.phone(place=place, q=q) for place, q in ((1, "0.9"), (2, "0.8"), (3, "0.7"))]
        on.rings()
        for phone in phones[:2]:
            phone.answer(phone.take("INVITE"), 180, "r")
            on.passes(10)
        phones[2].answer(phones[2].take("INVITE"), 180, "r")
        on.passes(5.1)
        assert on.told()[-1] == 480
        assert on.refusals() == ["no-answer"]

    def test_busy_on_the_last_phone_is_busy(self) -> None:
        on = House(acme({"101": {**self.SERIAL["101"], "forward_busy": "102"}}))
        first, second, other = on.phone(place=1, q="0.9"), on.phone(place=2, q="0.5"), on.phone("102")
        on.rings()
        first.answer(first.take("INVITE"), 180, "one")
        on.passes(10.1)
        refuse(second, 486)
        other.take("INVITE")

    def test_a_phone_that_rang_in_vain_counts_although_the_last_one_is_gone(self) -> None:
        on = House(acme({"101": {**self.SERIAL["101"], "forward_no_answer": "102"}}))
        first, second, other = on.phone(place=1, q="0.9"), on.phone(place=2, q="0.5"), on.phone("102")
        on.rings()
        first.answer(first.take("INVITE"), 180, "one")
        on.passes(10.1)
        refuse(second, 404)
        other.take("INVITE")

    def test_a_6xx_ends_the_hunt(self) -> None:
        on = House(acme(self.SERIAL))
        first, second = on.phone(place=1, q="0.9"), on.phone(place=2, q="0.5")
        on.rings()
        refuse(first, 603)
        second.nothing()
        assert on.told() == [603]

    def test_a_phone_that_left_meanwhile_is_passed_over(self) -> None:
        on = House(acme(self.SERIAL))
        first, second, third = on.phone(place=1, q="0.9"), on.phone(place=2, q="0.5"), on.phone(place=3, q="0.1")
        on.rings()
        invite = first.take("INVITE")
        second.register(Contact="<sip:101@10.0.2.9:5062>;expires=0")
        first.answer(invite, 486, "x")
        second.nothing()
        third.take("INVITE")

    def test_an_answer_at_the_moment_of_the_time_out(self) -> None:
        on = House(acme(self.SERIAL))
        first, second = on.phone(place=1, q="0.9"), on.phone(place=2, q="0.5")
        on.rings()
        invite = first.take("INVITE")
        first.answer(invite, 180, "one")
        on.passes(10.1)
        first.take("CANCEL")
        first.answer(invite, 200, "one")  # crossed the CANCEL
        assert kinds(first.taken()) == ["ACK", "BYE"]
        second.answer(second.take("INVITE"), 200, "two")
        ok = on.pbx.taken()[-1]
        on.pbx.send(on.pbx.within(ok, "ACK", 1))
        on.pbx.send(on.pbx.within(ok, "BYE", 2))
        on.assert_nothing_left()

    def test_cancel_between_two_phones(self) -> None:
        on = House(acme(self.SERIAL))
        first, second = on.phone(place=1, q="0.9"), on.phone(place=2, q="0.5")
        on.rings()
        refuse(first, 486)
        invite = second.take("INVITE")
        on.gives_up()
        assert on.told() == [200, 487]
        second.answer(invite, 180, "s")
        second.take("CANCEL")
        on.passes(30)
        first.nothing()
        on.assert_nothing_left()


class TestRedirects:
    """A phone's 3xx is followed inside the tenant's own rules, as a forward by its user (RFC 3261 8.1.3.4)."""

    @pytest.mark.parametrize(
        "contact",
        ["<sip:102@acme.example>", "<sip:102@192.0.2.1>", "<tel:102>", "<sip:9@x.org>;q=0.1, <tel:102>;q=0.2"],
    )
    def test_to_another_user(self, contact: str) -> None:
        on = House()
        one, other, two = on.phone(place=1), on.phone(place=2), on.phone("102")
        on.rings()
        ringing = other.take("INVITE")
        other.answer(ringing, 180, "o")
        refuse(one, 302, Contact=contact)
        other.take("CANCEL")
        invite = two.take("INVITE")
        assert invite.split("diversion") == ["<sip:101@acme.example>;reason=deflection;counter=1"]
        two.answer(invite, 200, "two")
        assert on.told() == [180, 181, 200]

    @pytest.mark.parametrize("contact", ["<sip:102@elsewhere.example>", "<mailto:x@y>", "<sip:acme.example>"])
    def test_not_to_other_places(self, contact: str) -> None:
        on = House()
        one, two = on.phone(), on.phone("102")
        on.rings()
        refuse(one, 302, Contact=contact)
        two.nothing()
        assert on.told() == [480]

    def test_not_in_a_circle(self) -> None:
        on = House()
        one = on.phone()
        on.rings()
        refuse(one, 302, Contact="<sip:101@acme.example>")
        assert on.told()[-1] == 480
        assert on.refusals() == ["forward-loop"]
        on.assert_nothing_left()

    def test_by_a_pbx_that_was_called(self) -> None:
        on = House()
        phone = on.phone()
        phone.call("555")
        refuse(on.pbx, 302, Contact="<sip:556@pbx.example>")
        assert on.pbx.take("INVITE").uri == "sip:556@pbx.example"


def test_an_early_dialog_of_181_ends_with_the_call() -> None:
    on = House(acme({"101": {"forward_always": "102"}}))
    two = on.phone("102")
    on.rings()
    on.pbx.take(100)
    forwarded = on.pbx.take(181)
    assert forwarded.to.tag
    invite = two.take("INVITE")
    on.pbx.send(on.pbx.within(forwarded, "BYE", 2))  # the caller gives up in that dialog (RFC 3261 15)
    statuses = [m.status for m in on.pbx.taken()]
    assert statuses == [200, 487]
    two.answer(invite, 180, "x")
    two.take("CANCEL")
    on.assert_nothing_left()


def test_busy_is_acknowledged_by_the_caller() -> None:
    on = House()
    phone = on.phone()
    on.rings()
    refuse(phone, 486)
    on.pbx.take(100)
    on.pbx.send(ack_of(on.pbx.take(486), "sip:101@acme.example"))
    on.assert_nothing_left()
