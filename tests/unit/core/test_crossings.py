"""What crosses on the wire, gets lost or never comes: each leg gets its end all the same, and nothing is left."""

from __future__ import annotations

import pytest

from tests.unit.core.bench import PBX, Bench, ack_of, credentials, two_tenants
from tests.unit.core.talk import Outgoing, Ringing, Talk


def kinds(messages: list[object]) -> list[object]:
    return [getattr(m, "status", 0) or getattr(m, "method", "") for m in messages]


class TestByeBeforeTheAck:
    """RFC 3261 15: the called side sends no BYE before the ACK came, or was waited for in vain."""

    def test_the_phone_hangs_up_at_once(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 200, "p")
        ok = on.pbx.take(200)
        on.phone.send(on.from_phone("BYE", 1))
        on.phone.take(200)
        on.pbx.nothing()
        on.bench.pass_time(0.6)
        on.pbx.take(200)  # still sent again: the first may be lost
        on.pbx.send(on.pbx.within(ok, "ACK", 1))
        on.pbx.answer(on.pbx.take("BYE"), 200)
        on.assert_nothing_left()

    def test_the_ack_never_comes(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 200, "p")
        on.phone.send(on.from_phone("BYE", 1))
        on.bench.pass_time(40)
        came = kinds(list(on.pbx.taken()))
        assert came.count(200) >= 10
        assert came[came.index("BYE") :] == ["BYE"] * came.count("BYE")
        on.assert_nothing_left()

    def test_both_hang_up(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 200, "p")
        ok = on.pbx.take(200)
        on.phone.send(on.from_phone("BYE", 1))
        on.phone.take(200)
        on.pbx.send(on.pbx.within(ok, "BYE", 2))
        on.pbx.take(200)
        on.bench.pass_time(1)
        on.pbx.nothing()
        on.assert_nothing_left()
        assert len(on.bench.events("call.ended")) == 1


def test_a_caller_that_hangs_up_before_its_ack_came() -> None:
    on = Ringing()
    on.phone.answer(on.invite, 200, "p")
    ok = on.pbx.take(200)
    on.pbx.send(on.pbx.within(ok, "BYE", 2))
    on.pbx.take(200)
    assert kinds(list(on.phone.taken())) == ["ACK", "BYE"]
    on.pbx.send(on.pbx.within(ok, "ACK", 1))
    on.phone.nothing()
    on.assert_nothing_left()


def test_bye_crosses_bye() -> None:
    talk = Talk()
    talk.pbx.send(talk.from_pbx("BYE", 2))
    talk.phone.send(talk.from_phone("BYE", 1))
    talk.pbx.take(200)
    bye, answer = talk.phone.taken()
    assert (bye.method, answer.status) == ("BYE", 200)
    talk.phone.answer(bye, 481)
    (ended,) = talk.bench.events("call.ended")
    assert ended["detail"]["by"] == "caller"  # type: ignore[index]
    talk.assert_nothing_left()


def test_a_bye_overtakes_the_2xx_of_what_rings() -> None:
    on = Ringing()
    on.phone.answer(on.invite, 180, "p")
    on.pbx.take(180)
    on.phone.send(on.from_phone("BYE", 1))
    on.pbx.take(480)
    on.phone.taken()
    on.phone.answer(on.invite, 200, "p")
    assert kinds(list(on.phone.taken())) == ["ACK", "BYE"]
    on.assert_nothing_left()


@pytest.mark.parametrize("method", ["INFO", "MESSAGE", "REFER"])
def test_481_and_silence_inside_the_call_end_it(method: str) -> None:
    """RFC 3261 12.2.1.2."""
    talk = Talk()
    talk.pbx.send(talk.from_pbx(method, 2))
    talk.phone.answer(talk.phone.take(method), 481)
    assert kinds(list(talk.pbx.taken())) == [481, "BYE"]
    talk = Talk()
    talk.pbx.send(talk.from_pbx(method, 2))
    talk.bench.pass_time(33)
    assert kinds(list(talk.pbx.taken()))[:2] == [408, "BYE"]
    talk.assert_nothing_left()


def test_a_notify_that_nobody_wants_leaves_the_call_alone() -> None:
    talk = Talk()
    talk.pbx.send(talk.from_pbx("NOTIFY", 2))
    talk.phone.answer(talk.phone.take("NOTIFY"), 481)
    talk.pbx.take(481)
    talk.pbx.nothing()


class TestCancel:
    """RFC 3261 9."""

    def test_each_phone_gets_one_however_many_provisionals_come(self) -> None:
        on = Ringing()
        on.cancel()
        on.phone.nothing()
        for _ in range(3):
            on.phone.answer(on.invite, 180, "p")
        assert kinds(list(on.phone.taken())) == ["CANCEL"]

    def test_the_phone_answers_in_spite_of_it(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 180, "p")
        on.pbx.take(180)
        on.cancel()
        assert kinds(list(on.pbx.taken())) == [200, 487]
        on.phone.take("CANCEL")
        on.phone.answer(on.invite, 200, "p")
        assert kinds(list(on.phone.taken())) == ["ACK", "BYE"]
        on.phone.answer(on.invite, 200, "p")  # the ACK was lost
        assert kinds(list(on.phone.taken())) == ["ACK"]
        on.assert_nothing_left()

    def test_the_answer_comes_after_the_call_is_forgotten(self) -> None:
        on = Ringing()
        on.cancel()
        on.bench.pass_time(31.5)
        on.phone.taken()
        on.phone.answer(on.invite, 180, "p")
        on.bench.pass_time(5)
        on.phone.taken()
        on.phone.answer(on.invite, 200, "p")
        assert kinds(list(on.phone.taken())) == ["ACK", "BYE"]
        on.assert_nothing_left()

    def test_a_late_2xx_is_acknowledged_as_long_as_it_comes(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 180, "p")
        on.cancel()
        on.phone.taken()
        on.bench.pass_time(31.5)
        on.phone.taken()
        on.phone.answer(on.invite, 200, "p")
        on.bench.pass_time(1)
        on.phone.taken()
        on.phone.answer(on.invite, 200, "p")
        assert kinds(list(on.phone.taken()))[:1] == ["ACK"]
        on.assert_nothing_left()

    def test_its_reason_passes_on(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 180, "p")
        on.cancel(Reason='SIP;cause=200;text="Call completed elsewhere"')
        assert on.phone.take("CANCEL").get("reason") == 'SIP;cause=200;text="Call completed elsewhere"'

    def test_a_challenge_that_crosses_it_is_not_answered(self) -> None:
        on = Outgoing()
        uri = "sip:+49@acme.example"
        on.pbx.answer(on.invite, 100)
        text = on.phone.request("INVITE", uri, from_="sip:101@acme.example", to=uri, call_id="z")
        on.phone.send(text)
        refused = on.phone.take(401)
        on.phone.send(ack_of(refused, uri))
        signed = on.phone.request(
            "INVITE", uri, from_="sip:101@acme.example", to=uri, call_id="z", Contact="<sip:101@10.0.0.9:5062>",
            Authorization=credentials(refused, "101", "INVITE", uri),
        )  # fmt: skip
        on.phone.send(signed)
        on.phone.take(100)
        invite = on.pbx.take("INVITE")
        on.phone.send(signed.replace("INVITE", "CANCEL", 1).replace(" INVITE\n", " CANCEL\n"))
        assert kinds(list(on.phone.taken())) == [200, 487]
        on.pbx.answer(invite, 401, "p", WWW_Authenticate='Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"')
        assert kinds(list(on.pbx.taken())) == ["ACK"]


class TestReinvite:
    """A re-INVITE that is cancelled, left without an answer, or overtaken by a BYE."""

    def begun(self, talk: Talk) -> str:
        text = talk.from_pbx("INVITE", 2, Contact=f"<sip:{PBX}:5060>")
        talk.pbx.send(text)
        talk.pbx.take(100)
        return text

    def test_it_is_not_cancelled_before_a_provisional_answer(self) -> None:
        talk = Talk()
        text = self.begun(talk)
        got = talk.phone.take("INVITE")
        talk.pbx.send(text.replace("INVITE", "CANCEL"))
        talk.pbx.take(200)
        talk.phone.nothing()
        talk.phone.answer(got, 100)
        talk.phone.answer(talk.phone.take("CANCEL"), 200)
        talk.phone.answer(got, 487)
        talk.pbx.take(487)

    def test_cancelled_and_never_answered(self) -> None:
        talk = Talk()
        text = self.begun(talk)
        talk.phone.answer(talk.phone.take("INVITE"), 100)
        talk.pbx.send(text.replace("INVITE", "CANCEL"))
        talk.pbx.take(200)
        talk.bench.pass_time(33)
        refused = talk.pbx.take(487)
        talk.pbx.send(ack_of(refused, refused.to.uri_text))
        talk.pbx.taken()
        talk.phone.taken()
        talk.pbx.send(talk.from_pbx("INVITE", 3, Contact=f"<sip:{PBX}:5060>"))  # the call lives, and may be changed
        talk.pbx.take(100)
        talk.phone.take("INVITE")

    def test_provisionally_answered_for_ever(self) -> None:
        talk = Talk()
        self.begun(talk)
        talk.phone.answer(talk.phone.take("INVITE"), 180)
        talk.pbx.take(180)
        talk.bench.pass_time(179)
        talk.phone.nothing()
        talk.bench.pass_time(2)
        talk.phone.take("CANCEL")
        talk.bench.pass_time(40)
        assert talk.pbx.taken()[0].status == 487
        talk.pbx.send(talk.from_pbx("BYE", 3))
        talk.assert_nothing_left()

    @pytest.mark.parametrize("side", ["pbx", "phone"])
    def test_a_bye_overtakes_it(self, side: str) -> None:
        talk = Talk()
        self.begun(talk)
        got = talk.phone.take("INVITE")
        talk.phone.answer(got, 180)
        talk.pbx.take(180)
        (talk.pbx if side == "pbx" else talk.phone).send(
            talk.from_pbx("BYE", 3) if side == "pbx" else talk.from_phone("BYE", 1)
        )
        at_pbx, at_phone = kinds(list(talk.pbx.taken())), kinds(list(talk.phone.taken()))
        assert 487 in at_pbx  # RFC 3261 15.1.2: what is pending is answered all the same
        assert "BYE" in (at_phone if side == "pbx" else at_pbx)
        assert "ACK" not in at_phone  # there was no 2xx to acknowledge
        talk.phone.answer(got, 200)  # crossed the BYE
        assert kinds(list(talk.phone.taken()))[:1] == ["ACK"]
        talk.assert_nothing_left()

    def test_the_first_2xx_comes_again_while_it_is_under_way(self) -> None:
        talk = Talk()
        self.begun(talk)
        talk.phone.take("INVITE")
        talk.phone.answer(talk.invite, 200, "p")  # the first ACK was lost
        assert talk.phone.take("ACK").cseq.number == talk.invite.cseq.number

    def test_each_2xx_gets_its_own_ack(self) -> None:
        talk = Talk()
        self.begun(talk)
        got = talk.phone.take("INVITE")
        talk.phone.answer(got, 200)
        ok = talk.pbx.take(200)
        talk.pbx.send(talk.pbx.within(ok, "ACK", 2))
        assert talk.phone.take("ACK").cseq.number == got.cseq.number
        talk.phone.answer(talk.invite, 200, "p")
        assert talk.phone.take("ACK").cseq.number == talk.invite.cseq.number

    def test_a_phone_that_hangs_up_before_the_ack_of_its_own_reinvite(self) -> None:
        talk = Talk()
        talk.phone.send(talk.from_phone("INVITE", 1, Contact="<sip:101@10.0.0.9:5062>"))
        talk.phone.take(100)
        talk.pbx.answer(talk.pbx.take("INVITE"), 200)
        talk.phone.take(200)
        talk.phone.send(talk.from_phone("BYE", 2))
        talk.phone.take(200)
        assert kinds(list(talk.pbx.taken())) == ["ACK", "BYE"]
        talk.assert_nothing_left()


class TestLostStreams:
    """RFC 3261 17.1.4, 18.4: what the end of a stream takes along."""

    def test_of_a_caller_before_the_answer(self) -> None:
        on = Ringing(transport="tcp")
        on.phone.answer(on.invite, 180, "p")
        on.bench.edge.flow_lost(on.pbx.flow, on.bench.now)
        on.bench.collect()
        on.phone.take("CANCEL")
        (ended,) = on.bench.events("call.ended")
        assert (ended["detail"]["by"], ended["detail"]["code"]) == ("caller", 487)  # type: ignore[index]
        on.phone.answer(on.invite, 487, "p")
        on.assert_nothing_left()

    def test_of_the_only_phone_that_rings(self) -> None:
        on = Ringing(transport="tcp")
        on.bench.edge.flow_lost(on.phone.flow, on.bench.now)
        on.bench.collect()
        failed = on.pbx.take(480)
        on.pbx.send(ack_of(failed, "sip:101@acme.example"))
        on.assert_nothing_left()

    def test_between_2xx_and_ack(self) -> None:
        on = Ringing(transport="tcp")
        on.phone.answer(on.invite, 200, "p")
        on.bench.edge.flow_lost(on.pbx.flow, on.bench.now)
        on.assert_nothing_left()
        assert [e["detail"]["code"] for e in on.bench.events("call.ended")] == [408]  # type: ignore[index]

    def test_in_the_call(self) -> None:
        talk = Talk(transport="tcp")
        talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
        talk.bench.collect()
        talk.pbx.nothing()  # the dialog lives on: the phone may come back over another stream
        talk.pbx.send(talk.from_pbx("BYE", 2))
        talk.pbx.take(200)
        talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
        talk.assert_nothing_left()

    def test_of_a_caller_whose_reinvite_is_under_way(self) -> None:
        talk = Talk(transport="tcp")
        talk.pbx.send(talk.from_pbx("INVITE", 2, Contact=f"<sip:{PBX}:5060;transport=tcp>"))
        got = talk.phone.take("INVITE")
        talk.phone.answer(got, 180)
        talk.bench.edge.flow_lost(talk.pbx.flow, talk.bench.now)
        talk.bench.collect()
        talk.phone.take("CANCEL")


def test_the_second_of_two_answers_behind_one_invite_is_hung_up() -> None:
    """A PBX that forks: two of its phones answer (RFC 3261 13.2.2.4)."""
    on = Outgoing()
    on.pbx.answer(on.invite, 180, "one", Contact=f"<sip:one@{PBX}>")
    on.pbx.answer(on.invite, 180, "two", Contact=f"<sip:two@{PBX}>")
    first, second = on.phone.taken()
    assert first.to.tag != second.to.tag
    on.pbx.answer(on.invite, 200, "two", Contact=f"<sip:two@{PBX}>")
    ok = on.phone.take(200)
    assert ok.to.tag == second.to.tag
    on.pbx.answer(on.invite, 200, "one", Contact=f"<sip:one@{PBX}>")
    ack, bye = on.pbx.taken()
    assert (ack.method, ack.uri, bye.method, bye.to.tag) == ("ACK", f"sip:one@{PBX}", "BYE", "one")
    on.phone.send(on.phone.within(ok, "ACK", ok.cseq.number))
    assert on.pbx.take("ACK").uri == f"sip:two@{PBX}"
    on.pbx.answer(on.invite, 200, "three", Contact=f"<sip:three@{PBX}>")
    assert kinds(list(on.pbx.taken())) == ["ACK", "BYE"]
    on.phone.send(on.phone.within(ok, "BYE", 9))
    on.assert_nothing_left()


def test_requests_in_early_dialogs_find_the_fork_that_they_belong_to() -> None:
    on = Outgoing()
    on.pbx.answer(on.invite, 183, "one", Contact=f"<sip:one@{PBX}>")
    on.pbx.answer(on.invite, 183, "two", Contact=f"<sip:two@{PBX}>")
    first, second = on.phone.taken()
    on.phone.send(on.phone.within(second, "UPDATE", 9))
    update = on.pbx.take("UPDATE")
    assert (update.uri, update.to.tag) == (f"sip:two@{PBX}", "two")
    on.pbx.answer(update, 200)
    on.phone.take(200)
    on.pbx.send(on.pbx.back(on.invite, "one", "UPDATE", 1))
    assert on.phone.take("UPDATE").from_.tag == first.to.tag


def test_a_decline_of_one_phone_is_for_all() -> None:
    """RFC 3261 16.7 step 5: a 6xx cancels the other branches."""
    bench = Bench(two_tenants())
    pbx, one, two = bench.end(PBX), bench.end("203.0.113.1", 5062), bench.end("203.0.113.2", 5063)
    one.register()
    two.register(Contact="<sip:101@10.0.0.77:5062>;expires=600")
    uri = "sip:101@acme.example"
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", Contact=f"<sip:{PBX}>"))
    pbx.take(100)
    first, second = one.take("INVITE"), two.take("INVITE")
    two.answer(second, 180, "two")
    pbx.take(180)
    one.answer(first, 603, "one")
    pbx.take(603)
    two.take("CANCEL")
