"""Session timers (RFC 4028): who refreshes, what is too small, and how an end that vanished is found out."""

from __future__ import annotations

import pytest

from sipd.message.message import Message
from sipd.session import LONGEST_LEAST
from tests.unit.core.bench import PBX, Bench, two_tenants
from tests.unit.core.talk import CHALLENGE, PHONE, Outgoing, Ringing, Talk

KNOWS = {"Supported": "timer"}


def answered(on: Ringing, **headers: str) -> Message:
    """The phone answers; the 200 as it came to the PBX."""
    on.phone.answer(on.invite, 200, "p", **headers)
    ok = on.pbx.take(200)
    on.pbx.send(on.pbx.within(ok, "ACK", 1))
    on.phone.take("ACK")
    return ok


def ended(bench: Bench) -> list[tuple[object, object]]:
    return [(e["detail"]["code"], e["detail"]["reason"]) for e in bench.events("call.ended")]  # type: ignore[index]


class TestWhoRefreshes:
    def test_both_know(self) -> None:
        on = Ringing(Session_Expires="300;refresher=uas", Min_SE="120", Supported="timer, 100rel", Require="timer")
        assert (on.invite.get("session-expires"), on.invite.get("min-se")) == ("300;refresher=uas", "120")
        assert not on.invite.has("require")  # ours to fulfil
        assert on.invite.get("supported") == "timer, 100rel"
        ok = answered(on, Session_Expires="200;refresher=uas", Require="x, timer")
        assert (ok.get("session-expires"), ok.get("require")) == ("200;refresher=uas", "x")

    def test_only_the_caller_knows(self) -> None:
        on = Ringing(Session_Expires="300", **KNOWS)
        ok = answered(on)
        assert (ok.get("session-expires"), ok.get("require")) == ("300;refresher=uac", "timer")

    def test_only_the_called_side_knows(self) -> None:
        on = Ringing()
        assert on.invite.get("session-expires") == "1800"
        assert on.invite.get("min-se") == "90"
        ok = answered(on, Session_Expires="1800;refresher=uas")
        assert (ok.get("session-expires"), ok.has("require")) == ("1800;refresher=uas", False)
        on.bench.pass_time(1799)
        on.pbx.nothing()
        on.bench.pass_time(2)
        on.pbx.take("BYE")

    def test_the_caller_knows_and_leaves_it_to_us(self) -> None:
        on = Ringing(**KNOWS)
        assert answered(on).get("session-expires") == "1800;refresher=uac"

    def test_a_long_interval_is_shortened(self) -> None:
        assert Ringing(Session_Expires="7200", **KNOWS).invite.get("session-expires") == "1800"
        assert Ringing(Session_Expires="7200", Min_SE="3600", **KNOWS).invite.get("session-expires") == "3600"

    @pytest.mark.parametrize("sender", ["pbx", "phone"])
    def test_require_timer_of_either_end_works(self, sender: str) -> None:
        if sender == "pbx":
            assert not Ringing(Require="timer", Session_Expires="300").invite.has("require")
            return
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        phone.call("+49", Require="timer", Session_Expires="300", Supported="timer")
        invite = pbx.take("INVITE")
        assert (invite.has("require"), invite.get("session-expires")) == (False, "300")


class TestTooSmall:
    def test_who_knows_timers_gets_422(self) -> None:
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        uri = "sip:101@acme.example"
        more = {"Contact": f"<sip:{PBX}>", "Session_Expires": "60", **KNOWS}
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", **more))
        assert pbx.take(422).get("min-se") == "90"
        phone.nothing()

    def test_for_who_does_not_it_is_raised(self) -> None:
        on = Ringing(Session_Expires="60")
        assert (on.invite.get("session-expires"), on.invite.get("min-se")) == ("90", "90")

    @pytest.mark.parametrize("value", ["x", "-1", "", "99999999999999", "9 9"])
    def test_one_that_cannot_be_read_is_400(self, value: str) -> None:
        bench = Bench(two_tenants())
        pbx = bench.end(PBX)
        uri = "sip:101@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", Session_Expires=value))
        pbx.take(400)

    def test_422_passes_to_a_caller_that_asked(self) -> None:
        on = Ringing(Session_Expires="100", **KNOWS)
        on.phone.answer(on.invite, 422, "p", Min_SE="500")
        assert on.pbx.take(422).get("min-se") == "500"

    def test_422_to_our_own_wish_is_ours_to_mend(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 422, "p", Min_SE="3600")
        on.phone.take("ACK")
        again = on.phone.take("INVITE")
        assert (again.get("session-expires"), again.get("min-se")) == ("3600", "3600")
        assert again.cseq.number == on.invite.cseq.number + 1
        on.phone.answer(again, 422, "p", Min_SE="3600")  # that makes no sense
        on.pbx.take(422)

    def test_in_the_call(self) -> None:
        talk = Talk()
        talk.phone.send(talk.from_phone("UPDATE", 1, Session_Expires="30", **KNOWS))
        assert talk.phone.take(422).get("min-se") == "90"
        talk.pbx.nothing()


class TestRefresh:
    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_one_that_passes_counts_for_both(self, method: str) -> None:
        on = Ringing(Session_Expires="300;refresher=uac", **KNOWS)
        ok = answered(on, Session_Expires="300;refresher=uac", Require="timer")
        on.bench.pass_time(290)
        more = {"Session_Expires": "300;refresher=uac", "Contact": f"<sip:{PBX}:5060>", **KNOWS}
        on.pbx.send(on.pbx.within(ok, method, 2, **more))
        refresh = on.phone.take(method)
        assert refresh.get("session-expires") == "300;refresher=uac"
        on.phone.answer(refresh, 200, Session_Expires="300;refresher=uac", Require="timer")
        assert [m.get("require") for m in on.pbx.taken() if m.status == 200] == ["timer"]
        if method == "INVITE":
            on.pbx.send(on.pbx.within(ok, "ACK", 2))
            on.phone.take("ACK")
        on.bench.pass_time(299)
        on.phone.nothing()
        on.bench.pass_time(2)
        bye = on.phone.take("BYE")
        assert bye.get("reason") == 'SIP;cause=408;text="Session Expired"'
        on.phone.answer(bye, 200)
        on.pbx.answer(on.pbx.take("BYE"), 200)
        assert ended(on.bench) == [(408, "Session Expired")]
        on.assert_nothing_left()

    def test_a_refresh_that_is_refused_counts_for_nobody(self) -> None:
        on = Ringing(Session_Expires="300", **KNOWS)
        ok = answered(on)
        on.bench.pass_time(200)
        on.pbx.send(on.pbx.within(ok, "UPDATE", 2, Session_Expires="300", **KNOWS))
        on.phone.answer(on.phone.take("UPDATE"), 488)
        on.pbx.take(488)
        on.bench.pass_time(101)
        on.pbx.take("BYE")

    def test_a_reinvite_of_an_end_that_does_not_know_keeps_the_timer(self) -> None:
        on = Ringing(Session_Expires="300", **KNOWS)
        answered(on)
        on.phone.send(on.from_phone("INVITE", 1, Contact="<sip:101@10.0.0.9:5062>"))
        on.phone.take(100)
        got = on.pbx.take("INVITE")
        assert got.get("session-expires") == "300"
        on.pbx.answer(got, 200, Session_Expires="300;refresher=uas")
        assert on.phone.take(200).get("session-expires") == "300;refresher=uas"


class TestNobodyKnows:
    """The edge asks with OPTIONS; it never offers media of its own."""

    def asked(self, transport: str = "udp") -> tuple[Talk, Message, Message]:
        talk = Talk(transport=transport)
        assert not talk.ok.has("session-expires")
        talk.bench.pass_time(601)
        return talk, talk.pbx.taken()[0], talk.phone.taken()[0]

    @pytest.mark.parametrize("status", [200, 404, 405, 501])
    def test_any_answer_says_that_it_lives(self, status: int) -> None:
        talk, at_pbx, at_phone = self.asked()
        assert (at_pbx.method, at_phone.method, at_pbx.to.tag) == ("OPTIONS", "OPTIONS", talk.ok.from_.tag)
        talk.pbx.answer(at_pbx, status)
        talk.phone.answer(at_phone, status)
        talk.bench.pass_time(60)
        talk.pbx.nothing()
        assert len(talk.bench.edge.calls(None, talk.bench.now)) == 1

    def test_a_challenge_is_answered(self) -> None:
        talk, at_pbx, at_phone = self.asked()
        talk.phone.answer(at_phone, 200)
        talk.pbx.answer(at_pbx, 401, WWW_Authenticate=CHALLENGE.format("pbx", "n"))
        assert talk.pbx.take("OPTIONS").has("authorization")

    def test_481_ends_it(self) -> None:
        talk, at_pbx, at_phone = self.asked()
        talk.phone.answer(at_phone, 200)
        talk.pbx.answer(at_pbx, 481)
        talk.phone.take("BYE")
        assert ended(talk.bench) == [(481, "Vanished")]
        talk.assert_nothing_left()

    def test_silence_ends_it(self) -> None:
        talk, _, at_phone = self.asked()
        talk.phone.answer(at_phone, 200)
        talk.bench.pass_time(33)
        assert "BYE" in [m.method for m in talk.phone.taken()]
        assert ended(talk.bench) == [(408, "Vanished")]
        talk.assert_nothing_left()

    def test_a_stream_that_is_gone_twice_ends_it(self) -> None:
        talk, at_pbx, _ = self.asked("tcp")
        talk.pbx.answer(at_pbx, 200)
        talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
        assert not ended(talk.bench)
        talk.bench.pass_time(600)
        talk.pbx.answer(talk.pbx.take("OPTIONS"), 200)
        talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
        assert ended(talk.bench) == [(408, "Vanished")]


def test_an_outgoing_call_has_a_timer_too() -> None:
    on = Outgoing()
    assert on.invite.get("session-expires") == "1800"
    on.answered(Session_Expires="900;refresher=uas")
    on.pbx.take("ACK")
    on.bench.pass_time(901)
    assert "BYE" in [m.method for m in on.phone.taken()]
    on.pbx.taken()
    on.assert_nothing_left()


def test_a_least_interval_has_a_bound() -> None:
    """Else a phone that vanishes could hold a call, and its limits, for years."""
    on = Ringing(Session_Expires="2000000000", Min_SE="2000000000", **KNOWS)
    assert on.invite.get("session-expires") == str(LONGEST_LEAST)
