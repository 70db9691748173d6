"""Inside a call: re-INVITE, glare, UPDATE, INFO, REFER and NOTIFY, PRACK, BYE from both sides, loss and doubles."""

from __future__ import annotations

import pytest

from sipd.message.message import Message
from tests.unit.core.bench import PBX, Bench, End, two_tenants
from tests.unit.core.talk import Talk


@pytest.fixture
def talk() -> Talk:
    return Talk()


def both(talk: Talk) -> list[tuple[End, End, str]]:
    return [(talk.pbx, talk.phone, "pbx"), (talk.phone, talk.pbx, "phone")]


@pytest.mark.parametrize("side", ["pbx", "phone"])
@pytest.mark.parametrize("method", ["UPDATE", "INFO", "MESSAGE", "NOTIFY", "REFER", "OPTIONS", "SUBSCRIBE"])
def test_requests_pass_with_their_body_and_answers_come_back(talk: Talk, side: str, method: str) -> None:
    here, there = (talk.pbx, talk.phone) if side == "pbx" else (talk.phone, talk.pbx)
    make = talk.from_pbx if side == "pbx" else talk.from_phone
    here.send(make(method, 2, body="what", Content_Type="text/plain", X_Own="kept"))
    got = there.take(method)
    assert got.body == b"what"
    assert got.get("x-own") == "kept"
    there.answer(got, 202, X_Back="too")
    assert here.take(202).get("x-back") == "too"


@pytest.mark.parametrize("side", ["pbx", "phone"])
def test_reinvite_with_its_ack(talk: Talk, side: str) -> None:
    here, there = (talk.pbx, talk.phone) if side == "pbx" else (talk.phone, talk.pbx)
    make = talk.from_pbx if side == "pbx" else talk.from_phone
    here.send(make("INVITE", 2, body="offer", Contact=f"<sip:{here.flow.host}:{here.flow.port}>"))
    here.take(100)
    got = there.take("INVITE")
    there.answer(got, 200, body="answer2")
    ok = here.take(200)
    assert ok.body == b"answer2"
    there.nothing()
    here.send(make("ACK", 2))
    assert there.take("ACK").cseq.number == got.cseq.number
    there.answer(got, 200, body="answer2")  # the ACK was lost
    there.take("ACK")


def test_glare_is_491(talk: Talk) -> None:
    talk.pbx.send(talk.from_pbx("INVITE", 2, Contact=f"<sip:{PBX}:5060>"))
    talk.pbx.take(100)
    talk.phone.take("INVITE")
    talk.phone.send(talk.from_phone("INVITE", 1, Contact="<sip:101@10.0.0.9:5062>"))
    talk.phone.take(491)


def test_a_second_reinvite_before_the_first_is_answered_is_500(talk: Talk) -> None:
    talk.pbx.send(talk.from_pbx("INVITE", 2))
    talk.pbx.take(100)
    talk.pbx.send(talk.from_pbx("INVITE", 3))
    assert talk.pbx.take(500).has("retry-after")


def test_a_refused_reinvite_leaves_the_call_up(talk: Talk) -> None:
    talk.pbx.send(talk.from_pbx("INVITE", 2))
    talk.pbx.take(100)
    talk.phone.answer(talk.phone.take("INVITE"), 488)
    talk.pbx.take(488)
    talk.phone.take("ACK")
    assert len(talk.bench.edge.calls(None, talk.bench.now)) == 1
    talk.pbx.send(talk.from_pbx("INVITE", 4))
    talk.phone.take("INVITE")


def test_cancel_of_a_reinvite(talk: Talk) -> None:
    text = talk.from_pbx("INVITE", 2)
    talk.pbx.send(text)
    talk.pbx.take(100)
    got = talk.phone.take("INVITE")
    talk.phone.answer(got, 180)
    talk.pbx.take(180)
    talk.pbx.send(text.replace("INVITE", "CANCEL"))
    talk.pbx.take(200)
    talk.phone.answer(talk.phone.take("CANCEL"), 200)
    talk.phone.answer(got, 487)
    talk.pbx.take(487)


def test_an_old_cseq_is_refused(talk: Talk) -> None:
    talk.pbx.send(talk.from_pbx("INFO", 5))
    talk.phone.answer(talk.phone.take("INFO"), 200)
    talk.pbx.take(200)
    talk.pbx.send(talk.from_pbx("INFO", 4))
    talk.pbx.take(500)


@pytest.mark.parametrize("change", ["call_id", "to", "from"])
def test_a_wrong_tag_or_call_id_finds_no_dialog(talk: Talk, change: str) -> None:
    text = talk.from_pbx("BYE", 2)
    old = {"call_id": "Call-ID: t", "to": talk.ok.to.tag or "", "from": talk.ok.from_.tag or ""}[change]
    talk.pbx.send(text.replace(old, old + "x"))
    talk.pbx.take(481)
    talk.phone.nothing()


def test_bye_from_the_phone(talk: Talk) -> None:
    talk.phone.send(talk.from_phone("BYE", 1))
    talk.phone.take(200)
    bye = talk.pbx.take("BYE")
    assert bye.from_.tag == talk.ok.to.tag
    talk.pbx.answer(bye, 200)


def test_a_notify_after_the_bye_still_passes_and_an_info_does_not(talk: Talk) -> None:
    talk.phone.send(talk.from_phone("BYE", 1))
    talk.phone.take(200)
    talk.pbx.take("BYE")
    talk.phone.send(talk.from_phone("INFO", 2))
    talk.phone.take(481)
    talk.phone.send(talk.from_phone("NOTIFY", 3))
    talk.pbx.take("NOTIFY")


def test_a_doubled_bye_is_answered_again_and_sent_once(talk: Talk) -> None:
    text = talk.from_phone("BYE", 1)
    talk.phone.send(text)
    talk.phone.send(text)
    assert [m.status for m in talk.phone.taken()] == [200, 200]
    assert len(talk.pbx.taken()) == 1


def test_481_from_the_other_end_ends_the_call(talk: Talk) -> None:
    talk.pbx.send(talk.from_pbx("INVITE", 2))
    talk.pbx.take(100)
    talk.phone.answer(talk.phone.take("INVITE"), 481)
    assert [m.status or m.method for m in talk.pbx.taken()] == [481, "BYE"]
    assert talk.bench.edge.calls(None, talk.bench.now) == []


def test_prack_names_the_other_legs_invite() -> None:
    bench = Bench(two_tenants())
    phone, pbx = bench.end("203.0.113.1", 5062), bench.end(PBX)
    phone.register()
    phone.call("+49", Supported="100rel")
    first = pbx.take("INVITE")
    pbx.answer(first, 401, "p", WWW_Authenticate='Digest realm="pbx", nonce="n", algorithm=MD5, qop="auth"')
    pbx.take("ACK")
    again = pbx.take("INVITE")
    pbx.answer(again, 183, "p", Require="100rel", RSeq="7", Contact=f"<sip:{PBX}:5060>")
    early = phone.take(183)
    assert early.get("rseq") == "7"
    phone.send(phone.within(early, "PRACK", 3, RAck="7 2 INVITE"))
    prack = pbx.take("PRACK")
    assert prack.get("rack") == f"7 {again.cseq.number} INVITE"
    pbx.answer(prack, 200)
    phone.take(200)
    phone.send(phone.within(early, "PRACK", 4, RAck="\u0667 2 INVITE"))  # a digit, and not SIP's
    assert pbx.take("PRACK").get("rack") == "0 0 INVITE"


def test_a_hot_load_leaves_a_call_alone(talk: Talk) -> None:
    talk.bench.load(two_tenants(mode=False))
    talk.pbx.send(talk.from_pbx("INFO", 2))
    got: Message = talk.phone.take("INFO")
    talk.phone.answer(got, 200)
    talk.pbx.take(200)
    talk.pbx.send(talk.from_pbx("BYE", 3))
    talk.pbx.take(200)
    talk.phone.take("BYE")
