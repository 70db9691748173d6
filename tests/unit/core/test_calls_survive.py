"""Calls that were up when the node was killed go on, end properly, and have one correct record."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sipd.keeping import TIMES
from sipd.message.message import Message
from sipd.routing.model import Limits, Table
from sipd.session import FIRST_CHECK, GRACE
from tests.unit.core.bench import PBX, End, ack_of, request_text, table, tenant, two_tenants, wire
from tests.unit.core.crash import Life
from tests.unit.core.house import House, acme, group, kinds
from tests.unit.core.talk import CHALLENGE, Outgoing, Ringing, Talk, assert_nothing_left
from tests.unit.core.test_subscriptions import Watching, opening

LATER = 0.2
"""Seconds after which all changes are stored, also those that may wait."""


def lived(talk: Ringing | Outgoing | House, routing: Table | None = None) -> Life:
    return Life(talk.bench, routing or two_tenants())


def answer(end: End, what: str | int) -> Message:
    """Take a request, and say 200."""
    request = end.take(what)
    end.answer(request, 200)
    return request


def over(life: Life) -> None:
    """Nothing is left, in memory or in the store."""
    life.bench.pass_time(400)
    life.commit()
    assert_nothing_left(life.bench)
    assert life.kinds() == []


def test_a_call_is_there_again_and_counts() -> None:
    routing = table(replace(tenant("acme"), limits=Limits(calls=1)), tenant("globex"))
    talk = Talk(routing)
    life = lived(talk, routing)
    before = talk.bench.edge.calls(None, talk.bench.now)
    life.restart()
    assert talk.bench.edge.calls(None, talk.bench.now) == before
    assert before[0]["state"] == "answered"
    uri = "sip:102@acme.example"
    talk.pbx.send(
        talk.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="u", Contact=f"<sip:{PBX}>")
    )
    assert kinds(talk.pbx.taken())[-1] == 503
    talk.phone.send(talk.from_phone("BYE", 2))
    talk.phone.take(200)
    answer(talk.pbx, "BYE")
    assert not talk.bench.edge.calls(None, talk.bench.now)
    talk.pbx.send(
        talk.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="v", Contact=f"<sip:{PBX}>")
    )
    assert kinds(talk.pbx.taken())[-1] == 480


@pytest.mark.parametrize("away", [0.0, 30.0, 3000.0])
@pytest.mark.parametrize("by", ["caller", "callee"])
def test_either_side_of_a_call_from_the_pbx_hangs_up(by: str, away: float) -> None:
    talk = Talk()
    life = lived(talk)
    talk.bench.pass_time(LATER)
    life.restart(away)
    last = talk.invite.cseq.number
    if by == "callee":
        talk.phone.send(talk.from_phone("BYE", 2, Reason="SIP;cause=200"))
        talk.phone.take(200)
        bye = answer(talk.pbx, "BYE")
        assert (bye.call_id, bye.from_.tag, bye.to.tag) == ("t", talk.ok.to.tag, "f-t")
        assert bye.uri == f"sip:{PBX}:5060"
        assert bye.get("reason") == "SIP;cause=200"
    else:
        talk.pbx.send(talk.from_pbx("BYE", 2))
        talk.pbx.take(200)
        bye = answer(talk.phone, "BYE")
        assert (bye.call_id, bye.from_.tag, bye.to.tag) == (talk.invite.call_id, talk.invite.from_.tag, "p")
        assert bye.uri == "sip:203.0.113.1:5062;transport=udp"
        assert bye.cseq.number > last
    talk.pbx.nothing()
    talk.phone.nothing()
    end = life.end()
    assert (end["code"], end["reason"], end["by"], end["direction"]) == (200, "Normal Clearing", by, "in")
    assert (end["from"], end["to"], end["rang"]) == ("sip:x@pbx.example", "sip:101@acme.example", ["101"])
    started = life.told("call.started")[0]
    assert len(life.told("call.answered")) == 1
    assert end["answered"] == end["started"] == talk.bench.now - away - LATER
    assert end["ended"] == talk.bench.now
    assert started["from"] == end["from"]
    over(life)


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_either_side_of_a_call_out_hangs_up(by: str) -> None:
    out = Outgoing()
    life = lived(out)
    ok = out.answered(Record_Route="<sip:proxy.pbx.example;lr>, <sip:198.51.100.10;lr>")
    out.pbx.take("ACK")
    life.restart()
    if by == "caller":
        out.phone.send(out.phone.within(ok, "BYE", ok.cseq.number + 1))
        out.phone.take(200)
        out.bench.collect()
        bye = out.pbx.take("BYE")
        assert (bye.call_id, bye.to.tag) == (out.invite.call_id, "p")
        assert bye.all("route") == ["<sip:198.51.100.10;lr>", "<sip:proxy.pbx.example;lr>"]
        assert bye.cseq.number > out.invite.cseq.number
        out.pbx.answer(bye, 401, WWW_Authenticate=CHALLENGE.format("pbx", "n1"))
        again = answer(out.pbx, "BYE")
        assert 'username="101"' in (again.get("authorization") or "")
        assert again.cseq.number > bye.cseq.number
    else:
        out.pbx.send(out.pbx.back(out.invite, "p", "BYE", 7))
        out.pbx.take(200)
        bye = answer(out.phone, "BYE")
        assert (bye.call_id, bye.from_.tag) == (ok.call_id, ok.to.tag)
    end = life.end()
    assert (end["by"], end["direction"], end["rang"], end["code"]) == (by, "out", ["+49"], 200)
    over(life)


def test_an_internal_call_a_forwarded_one_and_one_to_a_group_have_their_records() -> None:
    settings = {"101": {"forward_always": "+4940"}}
    of = acme(settings, {"internal_calls": "always_direct"}, groups=(group("all", "102", "103"),))
    house = House(of)
    life = lived(house, table(of))
    house.phones("102", "103")
    first, second = house.phone("102"), house.phone("103")
    first.call("103", extension="102")
    second.answer(second.take("INVITE"), 200, "p")
    ok = first.take(200)
    first.send(first.within(ok, "ACK", ok.cseq.number))
    second.take("ACK")
    house.rings("101")
    for_pbx = [message for message in house.pbx.taken() if not message.status]
    house.pbx.answer(for_pbx[0], 200, "q")
    house.rings("600")
    taken = [message for message in first.taken() if not message.status]
    first.answer(taken[0], 200, "r")
    second.answer(second.take("INVITE"), 486, "s")
    life.restart()
    for call in house.bench.edge.calls(None, house.bench.now):
        house.bench.edge.hang_up(str(call["id"]), None, 480, "Enough", house.bench.now)
    house.bench.pass_time(400)
    ends = {end["direction"]: end for end in life.told("call.ended") if end["to"] != "sip:600@acme.example"}
    (grouped,) = [end for end in life.told("call.ended") if end["to"] == "sip:600@acme.example"]
    assert ends["internal"]["rang"] == ["103"]
    assert ends["in"]["forwards"] == ["101 unconditional +4940"]
    assert ends["in"]["rang"] == ["+4940"]
    assert (grouped["group"], grouped["rang"]) == ("600", ["102"])
    assert {(end["by"], bool(end["answered"])) for end in life.told("call.ended")} == {("operator", True)}
    over(life)


def test_requests_inside_the_dialogs_pass_as_before() -> None:
    talk = Talk()
    life = lived(talk)
    life.restart()
    talk.pbx.send(talk.from_pbx("INVITE", 2, body="hold", Contact=f"<sip:{PBX}:5080>"))
    talk.pbx.take(100)
    hold = talk.phone.take("INVITE")
    talk.phone.answer(hold, 200, "p", body="held")
    held = talk.pbx.take(200)
    assert (hold.body, held.body) == (b"hold", b"held")
    talk.pbx.send(talk.pbx.within(held, "ACK", 2))
    assert talk.phone.take("ACK").cseq.number == hold.cseq.number
    last = hold.cseq.number
    for cseq, method in enumerate(("UPDATE", "INFO", "MESSAGE", "OPTIONS"), 3):
        talk.pbx.send(talk.from_pbx(method, cseq))
        passed = answer(talk.phone, method)
        assert passed.cseq.number > last
        last = passed.cseq.number
        talk.pbx.take(200)
    talk.phone.send(talk.from_phone("REFER", 2, Refer_To="<sip:102@acme.example>"))
    refer = talk.bench.end(PBX, 5080).take("REFER")
    talk.bench.end(PBX, 5080).answer(refer, 202)
    talk.phone.take(202)
    life.restart()
    talk.pbx.send(talk.from_pbx("NOTIFY", 8, Event="refer", Subscription_State="terminated"))
    assert answer(talk.phone, "NOTIFY").get("subscription-state") == "terminated"
    talk.pbx.take(200)
    talk.phone.send(talk.from_phone("BYE", 3))
    bye = answer(talk.bench.end(PBX, 5080), "BYE")
    assert bye.uri == f"sip:{PBX}:5080", "the target as the re-INVITE changed it, over two restarts"
    assert bye.cseq.number > refer.cseq.number
    over(life)


def test_cseqs_rise_over_any_number_of_lives() -> None:
    """Also when a life says little, and nothing was stored since the last one began."""
    talk = Talk()
    life = lived(talk)
    seen = [talk.invite.cseq.number]
    for number in range(2, 12):
        life.restart()
        if number % 3:
            talk.pbx.send(talk.from_pbx("INFO", number))
            seen.append(answer(talk.phone, "INFO").cseq.number)
            talk.pbx.take(200)
    assert seen == sorted(set(seen))
    for number in range(12, 400):
        talk.pbx.send(talk.from_pbx("INFO", number))
        seen.append(answer(talk.phone, "INFO").cseq.number)
        talk.pbx.take(200)
    life.restart()
    talk.pbx.send(talk.from_pbx("BYE", 400))
    assert answer(talk.phone, "BYE").cseq.number > seen[-1]


def test_a_session_that_expired_meanwhile_ends_unless_it_is_refreshed_now() -> None:
    for refreshes in (False, True):
        talk = Talk(Supported="timer", Session_Expires="1800")
        life = lived(talk)
        life.restart(away=2000)
        if refreshes:
            talk.bench.pass_time(GRACE - 1)
            talk.pbx.send(talk.from_pbx("UPDATE", 2, Supported="timer", Session_Expires="1800"))
            answer(talk.phone, "UPDATE")
            talk.pbx.take(200)
            talk.bench.pass_time(20)
            assert talk.bench.edge.calls(None, talk.bench.now)
            continue
        talk.bench.pass_time(GRACE + 1)
        assert "BYE" in kinds(talk.phone.taken())
        assert "BYE" in kinds(talk.pbx.taken())
        end = life.end()
        assert (end["code"], end["reason"], end["by"]) == (408, "Session Expired", "edge")
        over(life)


@pytest.mark.parametrize("status", [200, 481, 0])
def test_ends_are_asked_whether_they_are_still_there(status: int) -> None:
    """One hung up while nobody was there, and nobody heard its BYE."""
    talk = Talk(Supported="timer", Session_Expires="1800")
    life = lived(talk)
    life.restart(away=100)
    talk.bench.pass_time(FIRST_CHECK + 1)
    for end, code in ((talk.phone, 200), (talk.pbx, status)):
        options = end.taken()[-1]
        assert options.method == "OPTIONS"
        if code:
            end.answer(options, code)
    talk.bench.pass_time(40)
    if status == 200:
        talk.phone.nothing()
        assert talk.bench.edge.calls(None, talk.bench.now)
        return
    assert "BYE" in kinds(talk.phone.taken())
    assert (life.end()["reason"], life.end()["by"]) == ("Vanished", "edge")
    over(life)


def test_our_2xx_without_its_ack_goes_out_again() -> None:
    ring = Ringing()
    life = lived(ring)
    ring.phone.answer(ring.invite, 200, "p", body="answer")
    ring.pbx.taken()
    life.restart(1.0)
    again = ring.pbx.take(200)
    assert (again.body, again.call_id) == (b"answer", "t")
    ring.phone.nothing()
    ring.bench.pass_time(0.6)
    ring.pbx.take(200)
    ring.pbx.send(ring.sent)
    ring.phone.nothing()
    ring.pbx.send(ring.pbx.within(again, "ACK", 1, body="late"))
    ack = ring.phone.take("ACK")
    assert (ack.cseq.number, ack.body, ack.to.tag) == (ring.invite.cseq.number, b"late", "p")
    ring.bench.pass_time(4)
    ring.pbx.nothing()
    life.restart(1.0)
    ring.pbx.nothing()
    ring.phone.answer(ring.invite, 200, "p", body="answer")
    assert ring.phone.take("ACK").body == b"late", "also when the phone has lost it, with its body"
    ring.pbx.send(ring.pbx.within(again, "BYE", 2))
    ring.pbx.take(200)
    answer(ring.phone, "BYE")
    over(life)


def test_nobody_who_acknowledges_ends_the_call() -> None:
    ring = Ringing()
    life = lived(ring)
    ring.phone.answer(ring.invite, 200, "p")
    life.restart(1.0)
    ring.bench.pass_time(40)
    assert (life.end()["reason"], life.end()["by"]) == ("No ACK", "edge")
    over(life)


def test_a_bye_waits_only_shortly_for_an_ack_that_may_have_come_before() -> None:
    ring = Ringing()
    life = lived(ring)
    ring.phone.answer(ring.invite, 200, "p")
    life.restart(1.0)
    ring.pbx.taken()
    ring.phone.send(ring.from_phone("BYE", 2))
    ring.bench.pass_time(4)
    assert kinds(ring.pbx.taken())[:3] == [200, 200, "BYE"]


def test_the_time_for_the_ack_was_over_meanwhile() -> None:
    """It may have come to nobody: the phone's INVITE is acknowledged, and the check finds out about the caller."""
    ring = Ringing()
    life = lived(ring)
    ring.phone.answer(ring.invite, 200, "p")
    ring.pbx.taken()
    life.restart(60.0)
    ring.pbx.nothing()
    assert ring.phone.take("ACK").cseq.number == ring.invite.cseq.number
    ring.bench.pass_time(FIRST_CHECK + 1)
    assert kinds(ring.pbx.taken()) == ["OPTIONS", "OPTIONS"]


def test_a_2xx_whose_ack_was_lost_is_acknowledged_again() -> None:
    talk = Talk()
    life = lived(talk)
    talk.bench.pass_time(LATER)
    life.restart(0.5)
    talk.phone.answer(talk.invite, 200, "p", body="answer")
    ack = talk.phone.take("ACK")
    assert (ack.cseq.number, ack.to.tag, ack.uri) == (1, "p", "sip:203.0.113.1:5062;transport=udp")
    talk.pbx.nothing()


def test_the_invite_that_began_a_call_begins_no_other() -> None:
    """A copy of it was long on its way, or the caller has not heard the 2xx."""
    talk = Talk()
    life = lived(talk)
    talk.bench.pass_time(LATER)
    life.restart(0.5)
    talk.pbx.send(talk.sent)
    talk.pbx.nothing()
    talk.phone.nothing()
    assert len(talk.bench.edge.calls(None, talk.bench.now)) == 1


def test_a_reinvite_that_was_answered_has_its_answer_again() -> None:
    talk = Talk()
    life = lived(talk)
    reinvite = talk.from_pbx("INVITE", 2, body="hold")
    talk.pbx.send(reinvite)
    talk.phone.answer(talk.phone.take("INVITE"), 200, "p", body="held")
    life.restart(0.5)
    talk.pbx.taken()
    talk.pbx.send(reinvite)
    assert talk.pbx.take(200).body == b"held"
    talk.phone.nothing()
    talk.pbx.send(talk.from_pbx("ACK", 2))
    talk.phone.take("ACK")


def test_a_reinvite_of_which_nothing_is_known_is_acknowledged_when_it_is_answered() -> None:
    talk = Talk()
    life = lived(talk)
    talk.pbx.send(talk.from_pbx("INVITE", 2, body="hold"))
    reinvite = talk.phone.take("INVITE")
    life.restart(0.5)
    talk.phone.answer(reinvite, 200, "p", body="held")
    assert talk.phone.take("ACK").cseq.number == reinvite.cseq.number


def test_a_call_that_is_over_does_not_come_back() -> None:
    talk = Talk()
    life = lived(talk)
    talk.pbx.send(talk.from_pbx("BYE", 2))
    talk.pbx.take(200)
    answer(talk.phone, "BYE")
    talk.bench.pass_time(LATER)
    life.commit()
    assert life.kinds() == []
    life.restart()
    assert not talk.bench.edge.calls(None, talk.bench.now)
    talk.pbx.nothing()
    talk.phone.nothing()
    life.end()


def test_a_bye_that_was_not_answered_goes_out_again() -> None:
    """And who sent the first one may send it again: it is not told 481 while the other end is still in the call."""
    talk = Talk()
    life = lived(talk)
    bye = talk.from_pbx("BYE", 2)
    talk.pbx.send(bye)
    lost = talk.phone.take("BYE")
    talk.pbx.taken()
    life.restart(0.5)
    assert not talk.bench.edge.calls(None, talk.bench.now)
    talk.pbx.send(bye)
    talk.pbx.take(200)
    again = answer(talk.phone, "BYE")
    assert again.cseq.number > lost.cseq.number
    talk.bench.pass_time(LATER)
    life.commit()
    assert life.kinds() == []
    assert life.end()["by"] == "caller"
    over(life)


# -- calls that rang


def test_a_call_that_rang_ends() -> None:
    ring = Ringing()
    life = lived(ring)
    ring.phone.answer(ring.invite, 180, "p")
    assert ring.pbx.take(180)
    life.restart(1.0)
    refusal = ring.pbx.take(500)
    ring.pbx.send(ring.sent)
    ring.pbx.take(500)
    ring.pbx.send(ack_of(refusal, "sip:101@acme.example"))
    ring.bench.pass_time(0.6)
    cancel = answer(ring.phone, "CANCEL")
    assert cancel.via.branch == ring.invite.via.branch
    assert (cancel.uri, cancel.call_id, cancel.cseq.number) == (ring.invite.uri, ring.invite.call_id, 1)
    assert cancel.from_.tag == ring.invite.from_.tag
    ring.phone.answer(ring.invite, 487, "p")
    assert ring.phone.take("ACK").via.branch == ring.invite.via.branch
    end = life.end()
    assert (end["code"], end["by"], end["answered"], end["rang"]) == (500, "edge", None, ["101"])
    assert end["started"] == ring.bench.now - 1.6
    (refused,) = [event for event in life.events if event["kind"] == "refused"]
    assert refused["rule"] == "restart"
    over(life)


def test_who_answered_meanwhile_is_hung_up_on() -> None:
    ring = Ringing()
    life = lived(ring)
    life.restart(1.0)
    ring.phone.answer(ring.invite, 200, "p")
    assert kinds(ring.phone.taken()) == ["ACK", "BYE"]


def test_a_caller_over_tcp_is_answered_where_it_takes_connections() -> None:
    """RFC 3261 18.2.2: the connection by which it called is gone."""
    ring = Ringing()
    life = lived(ring)
    pbx = ring.bench.end(PBX, 41000, "tcp")
    uri = "sip:101@acme.example"
    text = pbx.request(
        "INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="s", Contact=f"<sip:{PBX};transport=tcp>"
    )
    pbx.send(text.replace(f"{PBX}:41000", f"{PBX}:5068"))
    life.restart()
    assert ring.bench.end(PBX, 5068, "tcp").take(500).call_id == "s"


def test_phones_that_rang_in_vain_are_cancelled_also_after_the_answer() -> None:
    house = House()
    life = lived(house, house_table(house))
    one, two = house.phone(place=1), house.phone(place=2)
    house.rings()
    lost = two.take("INVITE")
    one.answer(one.take("INVITE"), 200, "p")
    two.taken()
    life.restart(0.5)
    house.passes(0.6)
    assert answer(two, "CANCEL").via.branch == lost.via.branch
    assert "CANCEL" not in kinds(one.taken())
    house.passes(3600)
    life.restart(0.5)
    house.passes(0.6)
    assert "CANCEL" not in kinds(two.taken()), "an hour later nothing rings"


def house_table(house: House) -> Table:
    return table(acme())


# -- phones that come back, PBXs behind streams


@pytest.mark.parametrize("contact", ["10.0.0.9:5062", "10.0.0.9:40002"])
def test_a_phone_over_tcp_is_reached_where_it_comes_back(contact: str) -> None:
    """Its connection died with the node. Its Contact may tell the port of the new one."""
    talk = Talk(transport="tcp", Contact=f"<sip:{PBX}:5060;transport=tcp>")
    life = lived(talk)
    life.restart()
    back = talk.bench.end("203.0.113.1", 40002, "tcp")
    back.register(Contact=f"<sip:101@{contact};transport=tcp>;expires=600")
    talk.pbx.send(talk.from_pbx("BYE", 2))
    answer(back, "BYE")
    assert life.end()["by"] == "caller"
    talk.phone.nothing()


def test_a_phone_whose_dead_connection_is_noticed_late_is_reached_all_the_same() -> None:
    talk = Talk(transport="tcp", Contact=f"<sip:{PBX}:5060;transport=tcp>")
    life = lived(talk)
    life.restart()
    back = talk.bench.end("203.0.113.1", 40002, "tcp")
    back.register(Contact="<sip:101@10.0.0.9:40002;transport=tcp>;expires=600")
    talk.bench.edge.flow_lost(talk.phone.flow, talk.bench.now)
    talk.pbx.send(talk.from_pbx("BYE", 2))
    answer(back, "BYE")


def test_a_phone_that_moved_over_udp_is_reached_where_it_is() -> None:
    talk = Talk(routing=None)
    life = lived(talk)
    moved = talk.bench.end("203.0.113.1", 7777)
    moved.register(Contact="<sip:101@10.0.0.9:5062>;expires=600")
    talk.phone.send(talk.from_phone("INFO", 2))
    answer(talk.pbx, "INFO")
    talk.phone.take(200)
    life.restart()
    talk.pbx.send(talk.from_pbx("INFO", 2))
    answer(talk.phone, "INFO")


def test_a_pbx_over_tcp_is_connected_to_anew() -> None:
    talk = Talk(transport="tcp", Contact=f"<sip:{PBX}:5066;transport=tcp>")
    life = lived(talk)
    life.restart()
    talk.phone.send(talk.from_phone("BYE", 2))
    talk.phone.take(200)
    bye = answer(talk.bench.end(PBX, 5066, "tcp"), "BYE")
    assert bye.via.transport.upper() == "TCP"


# -- what else may be different afterwards


@pytest.mark.parametrize("routing", [table(), table(tenant("acme", extensions=("102",))), table(tenant("globex"))])
def test_a_call_goes_on_though_its_tenant_or_user_is_gone(routing: Table) -> None:
    talk = Talk()
    life = lived(talk)
    life.restart(routing=routing)
    assert len(talk.bench.edge.calls("acme", talk.bench.now)) == 1
    talk.phone.send(talk.from_phone("INFO", 2))
    answer(talk.pbx, "INFO")
    talk.phone.take(200)
    talk.phone.send(talk.from_phone("BYE", 3))
    answer(talk.pbx, "BYE")
    event = next(event for event in life.events + talk.bench.edge.take_events() if event["kind"] == "call.ended")
    assert (event["tenant"], event["user"], event["connection"]) == ("acme", "acme-101", "acme-pbx")
    assert event["detail"]["rang"] == ["101"]  # type: ignore[index]


@pytest.mark.parametrize("damage", ["", "{}", '{"a": []}', "[1]", '{"a": [1, 2], "b": 7, "answered": "x"}'])
@pytest.mark.parametrize("kind", ["call", "call.answer"])
def test_a_record_that_cannot_be_read_costs_that_call_alone(kind: str, damage: str) -> None:
    talk = Talk()
    life = lived(talk)
    life.commit()
    (key,) = [key for found, key in life.state if found == kind]
    other = {(found, "other"): text for (found, _), text in life.state.items() if found.startswith("call")}
    if damage:
        life.state[kind, key] = damage
    else:
        del life.state[kind, key]
    life.state.update(other)
    life.restart()
    assert not talk.bench.edge.faults
    ids = [call["id"] for call in talk.bench.edge.calls(None, talk.bench.now)]
    if damage or kind == "call":
        assert ids == ["other"]
        assert key not in {named for _, named in life.state}
    ends = life.told("call.ended")
    assert [end["call"] for end in ends] == ([] if kind == "call" else [key])
    assert all(end["code"] == 500 and end["by"] == "edge" for end in ends)
    assert talk.bench.edge.counters["calls.unreadable"] == (0 if kind == "call.answer" and not damage else 1)


def test_a_call_over_a_transport_that_is_no_more_ends_with_a_record() -> None:
    talk = Talk(transport="tcp")
    life = lived(talk)
    talk.bench.settings = replace(talk.bench.settings, listeners=talk.bench.settings.listeners[:1])
    life.restart()
    assert (life.end()["code"], life.end()["answered"]) == (500, life.end()["started"])
    over(life)


def long_call(old: str, new: str) -> Life:
    """A call that rings, with something in its INVITE that is longer than what is kept; killed."""
    house = House()
    life = lived(house, table(acme()))
    house.phone()
    text = house.pbx.request("INVITE", "sip:101@acme.example", from_="sip:y@pbx.example", to="sip:101@acme.example",
                             call_id="z", Contact=f"<sip:{PBX}:5060>")  # fmt: skip
    assert old in text
    house.pbx.send(text.replace(old, new))
    house.pbx.taken()
    life.restart()
    return life


def test_a_caller_with_too_many_vias_is_not_answered_after_a_restart_but_has_its_record() -> None:
    life = long_call("Max-Forwards", f"Via: SIP/2.0/UDP {'h' * 200}.example;branch=z9hG4bKx\n" * 60 + "Max-Forwards")
    assert life.end()["code"] == 500
    assert not [data for data, flow in life.bench.sent if flow.host == PBX]
    over(life)


def test_a_call_with_too_long_names_is_not_kept_and_counted() -> None:
    life = long_call("From: <", f'From: "{"x" * 8120}" <')
    assert life.told("call.started")
    assert not life.told("call.ended")
    assert life.kinds() == []


def test_routes_that_are_too_long_cost_the_call_but_not_its_record() -> None:
    talk = Talk(Record_Route=", ".join(f"<sip:{'x' * 200}{n}.pbx.example;lr>" for n in range(30)))
    assert talk.bench.edge.take_changes()
    assert talk.bench.edge.counters["calls.not_kept"] == 1
    talk = Talk(Record_Route=", ".join(f"<sip:{'x' * 200}{n}.pbx.example;lr>" for n in range(30)))
    life = lived(talk)
    life.restart()
    assert (life.end()["code"], life.end()["answered"]) == (500, life.end()["started"])


def test_texts_that_are_no_ascii_survive_byte_for_byte() -> None:
    house = House()
    life = lived(house, table(acme()))
    phone = house.phone()
    text = house.pbx.request("INVITE", "sip:101@acme.example", from_="sip:y@pbx.example", to="sip:101@acme.example",
                             call_id="z", Contact=f"<sip:{PBX}:5060>")  # fmt: skip
    data = wire(text).replace(b"From: <sip:y@", 'From: "Jürgen \udcff" <sip:y@'.encode("utf-8", "surrogateescape"))
    house.pbx.send(data)
    invite = phone.take("INVITE")
    phone.answer(invite, 200, "p")
    house.pbx.taken()
    life.restart()
    phone.send(phone.back(invite, "p", "BYE", 2))
    house.bench.pass_time(33)
    byes = [message for message in house.pbx.taken() if message.method == "BYE"]
    assert byes
    assert 'To: "Jürgen \udcff" <sip:y@pbx.example>;tag=f-z'.encode("utf-8", "surrogateescape") in byes[0].data


def test_all_times_are_in_the_fields_that_are_listed() -> None:
    """So that they can be moved when the clock was set."""
    ring = Ringing(Supported="timer", Session_Expires="1800")
    life = lived(ring)
    ring.phone.answer(ring.invite, 200, "p")
    ring.pbx.send(
        ring.pbx.within(next(m for m in ring.pbx.taken() if m.status == 200), "REFER", 2, Refer_To="<sip:1@x>")
    )
    ring.phone.answer(ring.phone.take("REFER"), 202)
    life.commit()
    found = set[str]()
    for (kind, _), text in life.state.items():
        for name, value in json.loads(text).items() if kind.startswith("call") else ():
            values = list(value.values()) if name in TIMES and isinstance(value, dict) else [value]
            if any(isinstance(each, float) for each in values):
                found.add(name)
            assert name in TIMES or "17000" not in json.dumps(value)
    assert found == {"started", "answered", "session_at", "until_a", "usages_b"}
    assert found <= set(TIMES)


def test_a_store_that_lost_its_file_gets_all_calls_again() -> None:
    talk = Talk()
    life = lived(talk)
    talk.bench.pass_time(LATER)
    life.commit()
    before = dict(life.state)
    life.state.clear()
    talk.bench.edge.restate()
    life.commit()
    assert life.state == before
    life.restart()
    life.state.clear()
    talk.bench.edge.restate()
    life.restart()
    assert len(talk.bench.edge.calls(None, talk.bench.now)) == 1
    talk.phone.send(talk.from_phone("BYE", 2))
    answer(talk.pbx, "BYE")
    over(life)


def call_changes(ring: Ringing) -> list[str]:
    return [kind for kind, _, _ in ring.bench.edge.take_changes() if kind.startswith("call")]


def test_a_call_costs_few_records_and_nothing_is_written_while_people_talk() -> None:
    ring = Ringing()
    assert call_changes(ring) == ["call"]
    ring.phone.answer(ring.invite, 180, "p")
    ring.pbx.take(180)
    assert call_changes(ring) == []
    ring.phone.answer(ring.invite, 200, "p")
    ok = ring.pbx.take(200)
    assert call_changes(ring) == ["call.answer"]
    ring.pbx.send(ring.pbx.within(ok, "ACK", 1))
    ring.phone.take("ACK")
    assert call_changes(ring) == []
    ring.bench.pass_time(LATER)
    assert call_changes(ring) == ["call.mark"]
    for number in range(2, 50):
        ring.pbx.send(ring.pbx.within(ok, "INFO", number))
        answer(ring.phone, "INFO")
        ring.pbx.take(200)
    assert call_changes(ring) == []
    ring.pbx.send(ring.pbx.within(ok, "BYE", 50))
    assert call_changes(ring) == ["call.mark"]
    answer(ring.phone, "BYE")
    assert call_changes(ring) == []
    ring.bench.pass_time(LATER)
    assert sorted(call_changes(ring)) == ["call", "call.answer", "call.mark"]


@pytest.mark.parametrize("noticed", [False, True])
def test_a_calling_phone_over_tcp_is_reached_where_it_comes_back(noticed: bool) -> None:
    house = House()
    life = lived(house, table(acme()))
    phone = house.bench.end("203.0.113.1", 40001, "tcp")
    contact = "<sip:101@10.0.0.9:5062;transport=tcp>"
    phone.register(Contact=contact)
    phone.call("+49", Contact=contact)
    house.pbx.answer(house.pbx.take("INVITE"), 200, "p")
    ok = phone.take(200)
    phone.send(phone.within(ok, "ACK", ok.cseq.number))
    invite = house.pbx.take("ACK")
    life.restart()
    if noticed:
        house.bench.edge.flow_lost(phone.flow, house.bench.now)
    back = house.bench.end("203.0.113.1", 40002, "tcp")
    back.register(Contact=contact)
    from_, to = invite.get("to") or "", invite.get("from") or ""
    house.pbx.send(request_text("BYE", "sip:101@192.0.2.1", from_=from_, to=to, call_id=invite.call_id, cseq=9,
                                via=house.pbx.sent_by, branch=house.pbx.branch(), headers={}))  # fmt: skip
    house.pbx.take(200)
    answer(back, "BYE")


def test_subscriptions_begin_anew_after_a_restart() -> None:
    """481 to the notifier has the PBX forget it, 481 to the subscriber has the phone subscribe anew (RFC 6665 4.1.2.2,
    4.2.2); the new SUBSCRIBE opens another."""
    on = Watching()
    life = Life(on.bench, two_tenants())
    accepted = on.accepted()
    on.heard(1)
    life.restart()
    on.pbx.send(on.notify(2))
    assert on.pbx.take(481).cseq.method == "NOTIFY"
    on.phone.send(on.refresh(accepted, 9))
    assert on.phone.take(481).cseq.method == "SUBSCRIBE"
    assert opening(on.phone, "SUBSCRIBE", "sip:102@acme.example", on.headers, "again") is None
    on.sent = on.pbx.take("SUBSCRIBE")
    assert on.accepted().call_id == "again"
    on.heard(1)


WRONG: tuple[object, ...] = (None, 7, -1.5, "x", "\x00\xff", [], {}, [None], {"x": 1})


@pytest.mark.parametrize("kind", ["call", "call.answer", "call.mark"])
def test_no_field_that_is_spoilt_keeps_the_node_from_starting(kind: str) -> None:
    """The call goes on, or has its last event; a call beside it is not touched."""
    talk = Talk(Supported="timer", Session_Expires="1800")
    life = lived(talk)
    life.commit()
    (key,) = [key for found, key in life.state if found == "call"]
    life.state["call.mark", key] = '{"a":1,"b":0}'
    life.state.update({(found, "other"): text for (found, _), text in life.state.items() if found.startswith("call")})
    whole, record = dict(life.state), json.loads(life.state[kind, key])
    for path in paths(record):
        for wrong in WRONG:
            life.state = whole | {(kind, key): json.dumps(spoilt(record, path, wrong))}
            before = len(life.told("call.ended"))
            life.restart()
            ids = {str(call["id"]) for call in life.bench.edge.calls(None, life.bench.now)}
            ended = len(life.told("call.ended")) - before
            assert not life.bench.edge.faults, (path, wrong, life.bench.edge.faults)
            assert "other" in ids, (path, wrong)
            assert ended == (0 if key in ids else ended), (path, wrong)
            assert ended <= 1


def paths(record: object, before: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """To each value of a record."""
    found = [before] if before else []
    inner = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    return found + [path for name, value in inner for path in paths(value, (*before, name))]


def spoilt(record: object, path: tuple[object, ...], wrong: object) -> object:
    made = json.loads(json.dumps(record))
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = wrong
    return made
