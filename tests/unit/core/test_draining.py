"""A node that is emptied takes no new calls; all else goes on until the last call is ended properly."""

from __future__ import annotations

from tests.unit.core.bench import PBX, Bench, two_tenants
from tests.unit.core.house import House
from tests.unit.core.talk import Outgoing, Ringing, Talk


def test_a_new_call_of_the_pbx_gets_503_with_retry_after() -> None:
    house = House()
    ann = house.phone()
    house.bench.edge.refuse_calls(30)
    house.rings()
    answer = house.pbx.take(503)
    assert answer.get("retry-after") == "30"
    ann.nothing()
    assert house.refusals() == ["draining"]
    house.assert_nothing_left()


def test_a_new_call_of_a_phone_gets_503_before_it_is_asked_who_it_is() -> None:
    house = House()
    ann = house.phone()
    house.bench.edge.refuse_calls(30)
    uri, aor = "sip:102@acme.example", "sip:101@acme.example"
    ann.send(ann.request("INVITE", uri, from_=aor, to=uri, call_id="c", Contact="<sip:101@10.0.0.9:5062>"))
    assert ann.take(503).get("retry-after") == "30"


def test_calls_are_taken_again_after_it() -> None:
    house = House()
    ann = house.phone()
    house.bench.edge.refuse_calls(30)
    house.bench.edge.refuse_calls(0)
    house.rings()
    assert ann.take("INVITE")


def test_a_register_is_answered_all_the_same() -> None:
    bench = Bench(two_tenants())
    bench.edge.refuse_calls(30)
    assert bench.end("203.0.113.1", 5062).register().status == 200


def test_a_call_in_progress_goes_on_and_ends_as_any() -> None:
    talk = Talk()
    talk.bench.edge.refuse_calls(30)
    talk.pbx.send(talk.from_pbx("INVITE", 2, body="again", Contact=f"<sip:{PBX}:5060>"))
    talk.pbx.take(100)
    again = talk.phone.take("INVITE")
    talk.phone.answer(again, 200, "p", body="answer")
    talk.pbx.take(200)
    talk.pbx.send(talk.from_pbx("ACK", 2))
    talk.phone.take("ACK")
    talk.phone.send(talk.from_phone("BYE", 1))
    talk.phone.take(200)
    talk.pbx.answer(talk.pbx.take("BYE"), 200)
    (ended,) = talk.bench.events("call.ended")
    assert (ended["detail"]["by"], ended["detail"]["code"]) == ("callee", 200)  # type: ignore[index]
    talk.assert_nothing_left()


def test_a_call_that_rings_may_still_be_answered() -> None:
    ringing = Ringing()
    ringing.bench.edge.refuse_calls(30)
    ringing.phone.answer(ringing.invite, 200, "p", body="answer")
    assert ringing.pbx.take(200)


def test_an_attended_transfer_of_a_call_in_progress_is_no_new_call() -> None:
    """The INVITE with Replaces is looked at: here the answer is that there is no such call."""
    house = House()
    house.phone()
    house.bench.edge.refuse_calls(30)
    house.rings(Replaces="nobody;to-tag=a;from-tag=b")
    assert house.told() == [481]


def test_what_is_left_is_hung_up_with_a_reason_and_a_record_each() -> None:
    talk = Talk()
    talk.bench.events()
    started = talk.bench.now
    talk.bench.now += 60
    assert talk.bench.edge.hang_up_all("Node Is Stopping", talk.bench.now) == 1
    talk.bench.collect()
    for end in (talk.pbx, talk.phone):
        bye = end.take("BYE")
        assert bye.get("reason") == 'SIP;cause=503;text="Node Is Stopping"'
        end.answer(bye, 200)
    (ended,) = talk.bench.events("call.ended")
    detail = ended["detail"]
    assert isinstance(detail, dict)
    assert (detail["by"], detail["code"], detail["reason"]) == ("edge", 503, "Node Is Stopping")
    assert detail["ended"] - detail["answered"] == talk.bench.now - started
    assert talk.bench.edge.vitals()["calls"] == 0
    talk.assert_nothing_left()


def test_a_call_that_only_rings_is_refused_and_cancelled() -> None:
    ringing = Ringing()
    ringing.phone.answer(ringing.invite, 180, "p")
    ringing.pbx.take(180)
    ringing.bench.edge.hang_up_all("Node Is Stopping", ringing.bench.now)
    ringing.bench.collect()
    assert ringing.pbx.take(503)
    assert ringing.phone.take("CANCEL")
    (ended,) = ringing.bench.events("call.ended")
    assert ended["detail"]["answered"] is None  # type: ignore[index]


def test_a_call_out_is_hung_up_as_well() -> None:
    out = Outgoing()
    out.answered()
    assert out.bench.edge.hang_up_all("Node Is Stopping", out.bench.now) == 1
    out.bench.collect()
    kinds = [[message.method for message in end.taken()] for end in (out.pbx, out.phone)]
    assert kinds == [["ACK", "BYE"], ["BYE"]]
