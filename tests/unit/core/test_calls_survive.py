"""Calls that were up when the node was killed go on, end properly, and have one correct record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.message.message import Message
from sipd.routing.model import Limits, Table
from tests.unit.core.bench import PBX, End, table, tenant, two_tenants
from tests.unit.core.crash import Life
from tests.unit.core.house import House, kinds
from tests.unit.core.talk import Outgoing, Ringing, Talk, assert_nothing_left

LATER = 2.0
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
