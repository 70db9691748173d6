"""Calls through a media relay: every SDP is rewritten, the order is kept, and every session is deleted in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.bridging import MAX_HELD
from sipd.media import LEFT_SECONDS
from tests.unit.core.bench import PBX, End, connection, table
from tests.unit.core.crash import Life
from tests.unit.core.house import acme, group, kinds
from tests.unit.core.rtpengine import SAVP, SDP, MediaHouse, kept, marked, of_sdp, relayed

SECURE = SAVP.replace("RTP/AVP", "RTP/SAVP")
AVP = marked(0, "RTP/AVP", SDP)
ANSWER = marked(0, "answer", SDP)
ISUP = "--b\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n"
MULTIPART = ISUP + "--b\r\nContent-Type: application/sdp\r\n\r\n{}\r\n--b--\r\n"


def test_offer_and_answer_are_rewritten() -> None:
    house = MediaHouse()
    phone = house.phone()
    invite, ok = house.talk(phone)
    assert (invite.body, ok.body) == (AVP, ANSWER)
    assert invite.get("content-length") == str(len(AVP))
    assert ok.get("content-length") == str(len(ANSWER))
    offer, answer = house.relay.heard
    assert (offer["from-tag"], offer["to-tag"]) == (answer["from-tag"], answer["to-tag"])
    assert offer["sdp"] == answer["sdp"] == SDP.encode()
    house.pbx.send(house.pbx.within(ok, "BYE", 2))
    assert house.relay.commands() == ["offer", "answer", "delete"]
    house.assert_all_deleted()


def test_direct_bodies_pass_byte_for_byte() -> None:
    """Catches: any part of the relay at work where it is not wanted."""
    house = MediaHouse(relayed("direct"))
    phone = house.phone()
    body = "v=0\r\nnot quite \x00 SDP\n\n"
    invite, ok = house.talk(phone, offer=body, answer=body[::-1])
    assert (invite.body, ok.body) == (body.encode(), body[::-1].encode())
    phone.send(phone.back(invite, "p", "INVITE", 1, body=body, Contact="<sip:p@10.0.0.9>", **of_sdp(body)))
    assert house.pbx.take("INVITE").body == body.encode()
    house.pbx.send(house.pbx.within(ok, "BYE", 2))
    assert house.relay.heard == []


def test_a_phone_is_answered_where_its_messages_come_from_and_a_pbx_is_believed() -> None:
    house = MediaHouse()
    house.talk(house.phone())
    offer, answer = house.relay.heard
    assert offer["flags"] == [b"strict-source"]
    assert answer["flags"] == [b"strict-source", b"SIP-source-address"]
    assert answer["received from"] == [b"IP4", b"203.0.0.101"]


# -- which calls


def test_calls_out_through_a_connection_with_relay() -> None:
    house = MediaHouse()
    phone = house.phone()
    phone.call("+49", body=SDP)
    invite = house.pbx.take("INVITE")
    assert invite.body == AVP
    house.pbx.answer(invite, 200, "p", body=SDP)
    assert phone.take(200).body == ANSWER
    house.bench.edge.hang_up("call-101-+49", None, 480, "Enough", house.bench.now)
    house.bench.pass_time(0)
    house.assert_all_deleted()


@pytest.mark.parametrize(("media", "commands"), [("relay", ["offer", "answer", "delete"]), ("direct", [])])
def test_calls_between_phones_follow_the_default_connection(media: str, commands: list[str]) -> None:
    made = relayed(media)
    house = MediaHouse(replace(made, connections=(replace(made.connections[0], internal_calls="always_direct"),)))
    caller, callee = house.phones("101", "102")
    caller.call("102", body=SDP)
    invite = callee.take("INVITE")
    callee.answer(invite, 200, "p", body=SDP)
    ok = caller.take(200)
    caller.send(caller.within(ok, "ACK", ok.cseq.number))
    callee.send(callee.back(invite, "p", "BYE", 1))
    assert house.relay.commands() == commands
    assert invite.body == (AVP if commands else SDP.encode())
    house.assert_all_deleted()


def test_a_call_that_comes_in_direct_and_goes_out_by_relay() -> None:
    """Either of the two connections wants it."""
    made = acme({"101": {"forward_always": "+4930"}})
    second = connection("second", source="198.51.100.20", media="relay", strategy="none")
    of = replace(made, connections=(*made.connections, second), default_connection="second")
    house = MediaHouse(of)
    house.rings()
    out = house.bench.end("198.51.100.20")
    assert out.take("INVITE").body == AVP
    house.gives_up()
    house.assert_all_deleted()


# -- early media, forks, late offers


def test_early_media_and_a_200_that_does_not_overtake_it() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings()
    invite = phone.take("INVITE")
    house.relay.holding = True
    phone.answer(invite, 183, "p", body=SDP)
    phone.answer(invite, 180, "p")
    phone.answer(invite, 200, "p", body=SDP)
    house.pbx.take(100)
    house.pbx.nothing()
    house.bench.release()
    early, ringing, ok = house.pbx.taken()
    assert kinds([early, ringing, ok]) == [183, 180, 200]
    assert (early.body, ringing.body, ok.body) == (ANSWER, b"", ANSWER)
    assert house.relay.commands() == ["offer", "answer"], "the same answer is not asked for twice"
    house.gives_up()
    house.passes(40)
    house.assert_all_deleted()


def test_a_200_that_comes_again_has_the_same_body_and_asks_for_nothing() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings()
    invite = phone.take("INVITE")
    house.relay.holding = True
    for _ in range(3):
        phone.answer(invite, 200, "p", body=SDP)
    house.bench.release()
    house.passes(2)
    _, *answers = house.pbx.taken()
    assert {answer.status for answer in answers} == {200}
    assert {answer.body for answer in answers} == {ANSWER}
    assert len(answers) > 1
    assert house.relay.commands() == ["offer", "answer"]


def test_early_dialogs_of_a_pbx_that_forks() -> None:
    """Its answers differ; the newest is where the media goes."""
    house = MediaHouse()
    phone = house.phone()
    phone.call("+49", body=SDP)
    invite = house.pbx.take("INVITE")
    bodies = [SDP.replace("4000", str(port)) for port in (4002, 4004, 4002)]
    house.pbx.answer(invite, 183, "one", body=bodies[0])
    house.pbx.answer(invite, 183, "two", body=bodies[1])
    house.pbx.answer(invite, 200, "one", body=bodies[2])
    answers = phone.taken()
    assert [answer.body for answer in answers] == [marked(0, "answer", body) for body in bodies]
    assert answers[0].to.tag == answers[2].to.tag != answers[1].to.tag
    asked = [request["sdp"] for request in house.relay.heard if request["command"] == b"answer"]
    assert asked == [body.encode() for body in bodies]
    phone.send(phone.within(answers[2], "ACK", answers[2].cseq.number))
    phone.send(phone.within(answers[2], "BYE", answers[2].cseq.number + 1))
    house.assert_all_deleted()


def test_each_phone_that_rings_gets_an_offer_of_its_kind() -> None:
    house = MediaHouse()
    plain, browser, over_tls = (house.phone_over(kind, place=n) for n, kind in enumerate(("udp", "wss", "tls")))
    house.rings()
    invites = [phone.take("INVITE") for phone in (plain, browser, over_tls)]
    protocols = ("RTP/AVP", "UDP/TLS/RTP/SAVPF", "RTP/SAVP")
    assert [invite.body for invite in invites] == [marked(0, protocol, SDP) for protocol in protocols]
    assert len(house.relay.sessions) == 3
    browser.answer(invites[1], 200, "b", body=SAVP)
    house.pbx.take(100)
    assert house.pbx.take(200).body == marked(0, "answer", SAVP)
    for phone, invite in ((plain, invites[0]), (over_tls, invites[2])):
        phone.answer(invite, 180, "r")
        phone.answer(phone.take("CANCEL"), 200)
        phone.answer(invite, 487, "r")
    assert len(house.relay.sessions) == 1, "those who lost are deleted at once"
    browser.send(browser.back(invites[1], "b", "BYE", 1))
    house.assert_all_deleted()


def test_serial_forks_and_refusals_delete_each_what_they_offered() -> None:
    made = relayed(of_users={"101": {"fork": "serial", "serial_seconds": 5}})
    house = MediaHouse(made)
    phones = [house.phone("101", place) for place in range(2)]
    house.rings()
    _, second = sorted(phones, key=lambda phone: not phone.taken())
    assert len(house.relay.sessions) == 1
    house.passes(5)
    assert len(house.relay.sessions) == 1, "the one that was given up is deleted when the next one rings"
    invite = next(message for message in second.taken() if message.method == "INVITE")
    second.answer(invite, 486, "busy")
    assert house.relay.sessions == {}
    house.assert_all_deleted()


def test_a_group_rings_by_relay() -> None:
    house = MediaHouse(relayed(groups=(group("all"),)))
    phones = house.phones()
    house.rings("600")
    assert [phone.take("INVITE").body for phone in phones] == [AVP] * 3
    house.gives_up()
    house.assert_all_deleted()


def test_late_offer_comes_from_the_callee_and_is_answered_in_the_ack() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings(body="")
    invite = phone.take("INVITE")
    assert (invite.body, house.relay.heard) == (b"", [])
    phone.answer(invite, 200, "p", body=SDP)
    house.pbx.take(100)
    ok = house.pbx.take(200)
    assert ok.body == AVP
    ack = house.pbx.within(ok, "ACK", 1, body=SDP, **of_sdp(SDP))
    house.relay.holding = True
    house.pbx.send(ack)
    house.pbx.send(ack)
    phone.nothing()
    house.bench.release()
    acks = phone.taken()
    assert [ack.body for ack in acks] == [ANSWER]
    offer, answer = house.relay.heard
    assert offer["from-tag"] == answer["from-tag"] == b"callee"
    house.pbx.send(house.pbx.within(ok, "BYE", 2))
    house.assert_all_deleted()


def test_hang_up_while_the_ack_of_a_late_offer_waits() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings(body="")
    phone.answer(phone.take("INVITE"), 200, "p", body=SDP)
    house.pbx.take(100)
    ok = house.pbx.take(200)
    house.relay.holding = True
    house.pbx.send(house.pbx.within(ok, "ACK", 1, body=SDP, **of_sdp(SDP)))
    house.pbx.send(house.pbx.within(ok, "BYE", 2))
    assert kinds(phone.taken()) == ["ACK", "BYE"]
    house.bench.release()
    phone.nothing()
    house.assert_all_deleted()


def test_reliable_early_offer_is_answered_in_the_prack() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings(body="", Supported="100rel")
    invite = phone.take("INVITE")
    phone.answer(invite, 183, "p", body=SDP, Require="100rel", RSeq="1")
    house.pbx.take(100)
    early = house.pbx.take(183)
    assert early.body == AVP
    house.pbx.send(house.pbx.within(early, "PRACK", 2, body=SDP, RAck="1 1 INVITE", **of_sdp(SDP)))
    prack = phone.take("PRACK")
    assert prack.body == ANSWER
    phone.answer(prack, 200)
    house.pbx.take(200)
    assert house.relay.commands() == ["offer", "answer"]
    house.gives_up()
    house.assert_all_deleted()


def test_offer_in_a_prack_and_in_an_early_update() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings(Supported="100rel")
    invite = phone.take("INVITE")
    phone.answer(invite, 183, "p", body=SDP, Require="100rel", RSeq="1")
    house.pbx.take(100)
    early = house.pbx.take(183)
    for number, method in enumerate(("PRACK", "UPDATE"), 2):
        house.pbx.send(house.pbx.within(early, method, number, body=SDP, RAck="1 1 INVITE", **of_sdp(SDP)))
        request = phone.take(method)
        assert request.body == AVP
        phone.answer(request, 200, body=SDP)
        assert house.pbx.take(200).body == ANSWER
    assert house.relay.commands() == ["offer", "answer"] * 3
    house.gives_up()
    house.assert_all_deleted()


# -- inside the dialog


@pytest.mark.parametrize("by", ["pbx", "phone"])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_offers_inside_the_dialog_both_ways(by: str, method: str) -> None:
    house = MediaHouse()
    phone = house.phone()
    invite, ok = house.talk(phone)
    house.relay.commands()
    more = {"Contact": f"<sip:{PBX}>", **of_sdp(SDP)}
    if by == "pbx":
        house.pbx.send(house.pbx.within(ok, method, 2, body=SDP, **more))
        asked, asking = phone, house.pbx
    else:
        phone.send(phone.back(invite, "p", method, 1, body=SDP, **more))
        asked, asking = house.pbx, phone
    request = asked.take(method)
    assert request.body == AVP
    asked.answer(request, 200, body=SDP)
    answers = [message for message in asking.taken() if message.status > 100]
    assert [answer.body for answer in answers] == [ANSWER]
    offer, answer = house.relay.heard
    side = b"caller" if by == "pbx" else b"callee"
    assert offer["from-tag"] == answer["from-tag"] == side
    phone.send(phone.back(invite, "p", "BYE", 2))
    house.assert_all_deleted()


def test_a_late_offer_inside_the_dialog() -> None:
    house = MediaHouse()
    phone = house.phone()
    invite, _ = house.talk(phone)
    house.relay.commands()
    phone.send(phone.back(invite, "p", "INVITE", 1, Contact="<sip:p@10.0.0.9>"))
    house.pbx.answer(house.pbx.take("INVITE"), 200, body=SDP)
    phone.take(100)
    assert phone.take(200).body == AVP
    phone.send(phone.back(invite, "p", "ACK", 1, body=SDP, **of_sdp(SDP)))
    assert house.pbx.take("ACK").body == ANSWER
    offer, answer = house.relay.heard
    assert offer["from-tag"] == answer["from-tag"] == b"caller"


def test_what_is_no_offer_passes_untouched() -> None:
    house = MediaHouse()
    _, ok = house.talk(phone := house.phone())
    house.relay.commands()
    house.pbx.send(house.pbx.within(ok, "INFO", 2, body=SDP, **of_sdp(SDP)))
    assert phone.take("INFO").body == SDP.encode()
    assert house.relay.commands() == []


def test_cancel_of_a_reinvite_that_waits_for_the_relay() -> None:
    house = MediaHouse()
    phone = house.phone()
    _, ok = house.talk(phone)
    house.relay.holding = True
    reinvite = house.pbx.within(ok, "INVITE", 2, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP))
    house.pbx.send(reinvite)
    house.pbx.take(100)
    head = reinvite.partition("\n\n")[0].replace("INVITE", "CANCEL").replace(f"Length: {len(SDP)}", "Length: 0")
    house.pbx.send(f"{head}\n\n")
    assert sorted(kinds(house.pbx.taken())) == [200, 487]
    house.bench.release()
    phone.nothing()
    house.pbx.send(house.pbx.within(ok, "INVITE", 3, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    assert phone.take("INVITE").body == AVP
    house.pbx.send(house.pbx.within(ok, "BYE", 4))
    house.passes(40)
    house.assert_all_deleted()


def test_bye_while_an_update_waits_for_the_relay() -> None:
    house = MediaHouse()
    phone = house.phone()
    invite, ok = house.talk(phone)
    house.relay.holding = True
    house.pbx.send(house.pbx.within(ok, "UPDATE", 2, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    phone.send(phone.back(invite, "p", "BYE", 1))
    house.bench.release()
    house.pbx.answer(bye := next(m for m in house.pbx.taken() if m.method == "BYE"), 200)
    assert bye.method == "BYE"
    assert kinds(phone.taken()) == [200], "the UPDATE does not follow the BYE"
    house.assert_all_deleted()


# -- bodies of other kinds


def test_the_sdp_in_a_multipart_body_is_replaced_and_the_rest_kept() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings(body=MULTIPART.format(SDP), Content_Type="multipart/mixed;boundary=b")
    assert phone.take("INVITE").body == MULTIPART.format(AVP.decode()).encode()


@pytest.mark.parametrize("kind", ["application/isup", "multipart/alternative;boundary=b", "text/plain"])
def test_other_bodies_pass_untouched_and_are_counted(kind: str) -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings(body=MULTIPART, Content_Type=kind)
    assert phone.take("INVITE").body == MULTIPART.encode()
    assert house.bench.edge.counters["media.untouched"] == 1
    assert house.relay.heard == []


# -- while it waits


def test_cancel_while_the_first_offer_waits() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.relay.holding = True
    house.rings()
    house.gives_up()
    assert house.told() == [200, 487]
    house.bench.release()
    phone.nothing()
    house.assert_all_deleted()


def test_the_others_are_not_rung_when_one_answers_first() -> None:
    """One phone's offer is answered by the relay, it picks up, and only then the relay answers for the other."""
    house = MediaHouse()
    phones = [house.phone("101", place) for place in range(2)]
    house.relay.holding = True
    house.rings()
    first, second = house.relay.held
    house.relay.holding, house.relay.held = False, []
    house.bench.edge.media_received(first, 0, house.bench.now)
    house.bench.collect()
    rung, other = sorted(phones, key=lambda phone: not has_mail(phone))
    rung.answer(rung.take("INVITE"), 200, "p", body=SDP)
    assert house.told() == [200]
    house.bench.edge.media_received(second, 0, house.bench.now)
    house.bench.collect()
    other.nothing()
    assert len(house.relay.sessions) == 1
    house.passes(40)  # no ACK: the call ends
    house.assert_all_deleted()


def has_mail(phone: End) -> bool:
    return any(flow[:3] == phone.flow[:3] for _, flow in phone.bench.sent)


def test_a_line_that_is_full_drops_what_comes_again_anyway() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings()
    invite = phone.take("INVITE")
    house.relay.holding = True
    phone.answer(invite, 183, "p", body=SDP)
    for _ in range(MAX_HELD + 5):
        phone.answer(invite, 180, "p")
    house.bench.release()
    assert len(house.told()) == 1 + MAX_HELD
    assert house.bench.edge.counters["media.dropped"] == 5


# -- SRTP


def test_a_phone_over_tls_that_takes_no_srtp_is_offered_plain_rtp() -> None:
    house = MediaHouse()
    phone = house.phone_over("tls")
    house.rings()
    first = phone.take("INVITE")
    phone.answer(first, 488, "no")
    phone.take("ACK")
    second = phone.take("INVITE")
    assert (first.body, second.body) == (marked(0, "RTP/SAVP", SDP), AVP)
    phone.answer(second, 488, "no")
    house.pbx.take(100)
    assert house.told() == [488]
    house.assert_all_deleted()


@pytest.mark.parametrize(("transport", "offer", "protocol"), [("tls", SDP, "RTP/AVP"), ("udp", SECURE, "RTP/SAVP")])
def test_a_phone_that_has_spoken_is_offered_what_it_speaks(transport: str, offer: str, protocol: str) -> None:
    """Over TLS with plain RTP, over UDP with SRTP: also after a restart."""
    house = MediaHouse()
    life = Life(house.bench, table(relayed()))
    phone = house.phone_over(transport)
    phone.call("+49", body=offer)
    invite = house.pbx.take("INVITE")
    house.pbx.answer(invite, 200, "p", body=SDP)
    ok = phone.take(200)
    phone.send(phone.within(ok, "ACK", ok.cseq.number))
    house.pbx.taken()
    house.pbx.send(house.pbx.back(invite, "p", "UPDATE", 1, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    update = phone.take("UPDATE")
    assert update.body == marked(0, protocol, SDP)
    phone.answer(update, 200, body=offer)
    restarted(house, life)
    phone.taken()
    house.pbx.send(house.pbx.back(invite, "p", "UPDATE", 2, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    assert phone.taken()[-1].body == marked(0, protocol, SDP)


def test_srtp_reaches_a_pbx_over_tls_only_if_the_phone_offers_it() -> None:
    made = relayed(of_connection={"transport": "tls", "tls_verify": False})
    for number, (offer, protocol) in enumerate(((SAVP, "RTP/SAVP"), (SDP, "RTP/AVP"))):
        house = MediaHouse(made)
        house.phone().call("+49", body=offer)
        pbx = house.bench.end(PBX, 5060, "tls")
        assert pbx.take("INVITE").body == marked(0, protocol, offer), number


# -- when there is none


def test_no_relay_refuses_with_503_and_says_when_to_come_back() -> None:
    house = MediaHouse(relays=0)
    phone = house.phone()
    house.rings()
    house.pbx.take(100)
    refusal = house.pbx.take(503)
    assert refusal.get("retry-after") == "5"
    assert house.refusals() == ["no-media-relay"]
    phone.nothing()
    house.assert_all_deleted()


def test_direct_calls_need_no_relay() -> None:
    house = MediaHouse(relayed("direct"), relays=0)
    phone = house.phone()
    house.talk(phone)


def test_what_the_relay_cannot_read_is_488() -> None:
    house = MediaHouse()
    house.phone()
    house.relay.refusing = {"result": "error", "error-reason": "Failed to parse SDP"}
    house.rings(body="hello")
    house.pbx.take(100)
    house.pbx.take(488)
    assert house.refusals() == ["media-refused"]
    house.assert_all_deleted()


@pytest.mark.parametrize("status", [183, 200])
def test_an_answer_that_the_relay_refuses_ends_the_attempt(status: int) -> None:
    house = MediaHouse()
    phone = house.phone()
    house.rings()
    invite = phone.take("INVITE")
    house.relay.refusing = {"result": "error", "error-reason": "Failed to parse SDP"}
    phone.answer(invite, status, "p", body="hello")
    assert kinds(phone.taken()) == (["CANCEL"] if status == 183 else ["ACK", "BYE"])
    house.pbx.take(100)
    house.pbx.take(488)
    house.assert_all_deleted()


def test_a_relay_that_dies_in_a_call_refuses_the_next_offer_and_the_call_goes_on() -> None:
    house = MediaHouse()
    phone = house.phone()
    _, ok = house.talk(phone)
    house.relay.up = False
    house.pbx.send(house.pbx.within(ok, "INVITE", 2, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    house.passes(3)
    house.pbx.take(100)
    house.pbx.take(503)
    phone.nothing()
    assert len(house.bench.edge.calls_.calls) == 1
    house.relay.up = True
    house.passes(10)
    house.pbx.send(house.pbx.within(ok, "BYE", 3))
    house.assert_all_deleted()


def test_a_relay_that_dies_before_it_rewrites_an_answer_ends_the_call() -> None:
    house = MediaHouse()
    phone = house.phone()
    _, ok = house.talk(phone)
    house.pbx.send(house.pbx.within(ok, "INVITE", 2, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    reinvite = phone.take("INVITE")
    house.relay.up = False
    phone.answer(reinvite, 200, body=SDP)
    house.passes(3)
    assert kinds(phone.taken())[:2] == ["ACK", "BYE"]
    assert {487, "BYE"} <= set(kinds(house.pbx.taken()))
    house.relay.up = True
    house.assert_all_deleted()


def test_what_goes_on_in_the_dead_relays_call_moves_to_another() -> None:
    house = MediaHouse(relays=2)
    phone = house.phone()
    _, ok = house.talk(phone)
    house.relay.up = False
    house.pbx.send(house.pbx.within(ok, "INVITE", 2, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    house.passes(3)
    request = phone.taken()[0]
    assert request.body == marked(1, "RTP/AVP", SDP)
    phone.answer(request, 200, body=SDP)
    house.pbx.take(100)
    assert house.pbx.take(200).body == marked(1, "answer", SDP)
    house.relay.up = True
    house.pbx.send(house.pbx.within(ok, "BYE", 3))
    house.assert_all_deleted()


# -- what is told


def test_the_trace_names_the_relay_and_no_key() -> None:
    house = MediaHouse()
    phone = house.phone()
    house.talk(phone, offer=SAVP, answer=SDP)
    tracer = house.bench.edge.tracer
    assert tracer is not None
    steps = [step for batch in tracer.take(house.bench.now, everything=True) for step in batch.steps]
    media = [step["sentence"] for step in steps if step["rule"] == "media"]
    assert media == ["offer through udp:192.0.2.8:2223", "answer through udp:192.0.2.8:2223"]


def restarted(house: MediaHouse, life: Life) -> None:
    """Killed and started again; a moment later it has deleted what nobody needs."""
    life.restart()
    house.passes(LEFT_SECONDS)


def test_a_restart_deletes_what_rang() -> None:
    house = MediaHouse()
    life = Life(house.bench, table(relayed()))
    phone = house.phone()
    house.rings()
    phone.take("INVITE")
    assert len(house.relay.sessions) == 1
    restarted(house, life)
    assert house.relay.sessions == {}
    life.commit()
    assert not [place for place in life.state if place[0] == "media"]


def test_a_call_that_goes_on_after_a_restart_keeps_its_session() -> None:
    house = MediaHouse(relays=2)
    life = Life(house.bench, table(relayed()))
    phone = house.phone()
    invite, ok = house.talk(phone)
    (name,) = house.relay.sessions
    restarted(house, life)
    assert list(house.relay.sessions) == [name]
    phone.taken()
    phone.send(phone.back(invite, "p", "INVITE", 1, body=SDP, Contact="<sip:p@10.0.0.9>", **of_sdp(SDP)))
    reinvite = next(message for message in house.pbx.taken() if message.method == "INVITE")
    assert reinvite.body == AVP
    house.pbx.answer(reinvite, 200, body=SDP)
    assert phone.taken()[-1].body == ANSWER
    assert house.relay.heard[-1]["call-id"] == name.encode()
    phone.send(phone.back(invite, "p", "ACK", 1))
    house.pbx.send(house.pbx.within(ok, "BYE", 5))
    assert house.relay.sessions == {}
    life.end()


def test_the_answer_to_a_late_offer_comes_after_a_restart() -> None:
    house = MediaHouse()
    life = Life(house.bench, table(relayed()))
    phone = house.phone()
    house.rings(body="")
    phone.answer(phone.take("INVITE"), 200, "p", body=SDP)
    house.pbx.take(100)
    ok = house.pbx.take(200)
    restarted(house, life)
    phone.taken()
    house.pbx.send(house.pbx.within(ok, "ACK", 1, body=SDP, **of_sdp(SDP)))
    assert phone.take("ACK").body == ANSWER


def test_a_call_moved_to_another_relay_is_found_there_after_a_restart() -> None:
    house = MediaHouse(relays=2)
    life = Life(house.bench, table(relayed()))
    phone = house.phone()
    _, ok = house.talk(phone)
    house.relay.up = False
    house.pbx.send(house.pbx.within(ok, "INVITE", 2, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    house.passes(3)
    phone.answer(phone.taken()[0], 200, body=SDP)
    house.pbx.send(house.pbx.within(ok, "ACK", 2))
    house.relay.up = True
    restarted(house, life)
    house.pbx.send(house.pbx.within(ok, "UPDATE", 3, body=SDP, Contact=f"<sip:{PBX}>", **of_sdp(SDP)))
    assert phone.taken()[-1].body == marked(1, "RTP/AVP", SDP)
    house.pbx.send(house.pbx.within(ok, "BYE", 4))
    house.passes(10)
    assert [relay.sessions for relay in house.bench.relays] == [{}, {}]


def test_a_store_that_lost_all_is_told_of_the_sessions_again() -> None:
    house = MediaHouse()
    house.talk(house.phone())
    before = kept(house.bench)
    house.bench.edge.restate()
    again = [key for kind, key, record in house.bench.edge.take_changes() if kind == "media" and record]
    assert again == list(before)
