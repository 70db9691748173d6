"""Calls that a PBX sends: the ladder from INVITE to BYE, forking, CANCEL, loss."""

from __future__ import annotations

import pytest

from tests.unit.core.bench import PBX, Bench, End, ack_of, two_tenants


@pytest.fixture
def bench() -> Bench:
    made = Bench(two_tenants())
    made.end(PBX).taken()
    return made


def invite(pbx: End, uri: str = "sip:101@acme.example", call_id: str = "c1", **headers: str) -> str:
    headers.setdefault("Contact", f"<sip:{pbx.flow.host}:5060>")
    return pbx.request("INVITE", uri, from_="sip:+4930@pbx.example", to=uri, call_id=call_id, **headers)


def test_a_call_rings_only_the_phone_of_the_tenant_whose_domain_it_names(bench: Bench) -> None:
    pbx, acme, globex = bench.end(PBX), bench.end("203.0.113.1", 5062), bench.end("203.0.113.2", 5062)
    acme.register("acme.example")
    globex.register("globex.example")

    pbx.send(invite(pbx))
    pbx.take(100)
    got = acme.take("INVITE")
    globex.nothing()
    assert got.uri == "sip:101@10.0.0.9:5062"
    assert got.to.uri_text == "sip:101@acme.example"

    acme.answer(got, 180, "a1")
    pbx.take(180)
    acme.answer(got, 200, "a1", body="answer")
    ok = pbx.take(200)
    assert ok.body == b"answer"
    acme.nothing()  # the ACK waits for the caller's
    pbx.send(pbx.within(ok, "ACK", 1, body="late"))
    assert acme.take("ACK").body == b"late"

    pbx.send(pbx.within(ok, "BYE", 2))
    pbx.take(200)
    bye = acme.take("BYE")
    acme.answer(bye, 200)
    ended = bench.events("call.ended")[0]
    assert ended["tenant"] == "acme"
    assert ended["detail"]["by"] == "caller"  # type: ignore[index]
    assert bench.edge.calls(None, bench.now) == []
    bench.pass_time(100)
    assert len(bench.edge.layer) == 0
    assert not bench.edge.calls_.dialogs


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("sip:101@globex.example", 480),
        ("sip:999@acme.example", 404),
        ("sip:101@unknown.example", 404),
        ("sip:101@192.0.2.1", 404),
    ],
)
def test_what_is_refused(bench: Bench, uri: str, status: int) -> None:
    pbx, acme = bench.end(PBX), bench.end("203.0.113.1", 5062)
    acme.register("acme.example")
    pbx.send(invite(pbx, uri))
    answers = [m for m in pbx.taken() if m.status != 100]
    assert [m.status for m in answers] == [status]
    assert bool(answers[0].get("warning")) == (uri == "sip:101@192.0.2.1")
    acme.nothing()


def test_an_unknown_source_is_refused_and_then_not_answered(bench: Bench) -> None:
    stranger = bench.end("198.51.100.99", 5066)
    for number in range(30):
        stranger.send(invite(stranger, call_id=f"c{number}"))
    answers = [m.status for m in stranger.taken()]
    assert answers == [403] * 20
    bench.pass_time(130)
    stranger.taken()  # 403 retransmissions
    stranger.send(invite(stranger, call_id="again"))
    assert stranger.taken()[0].status == 403


def test_cancel_reaches_all_phones_and_ends_with_487(bench: Bench) -> None:
    pbx, one, two = bench.end(PBX), bench.end("203.0.113.1", 5062), bench.end("203.0.113.2", 5063)
    one.register()
    two.register(Contact="<sip:101@10.0.0.77:5062>;expires=600")
    text = invite(pbx)
    pbx.send(text)
    pbx.take(100)
    first, second = one.take("INVITE"), two.take("INVITE")
    one.answer(first, 180, "one")
    pbx.take(180)
    pbx.send(text.replace("INVITE", "CANCEL"))
    assert [m.status for m in pbx.taken()] == [200, 487]
    one.take("CANCEL")
    two.nothing()  # no CANCEL before a provisional answer (RFC 3261 9.1)
    two.answer(second, 180, "two")
    cancel = two.take("CANCEL")
    two.answer(cancel, 200)
    two.answer(second, 487, "two")
    two.take("ACK")
    bench.pass_time(200)
    assert len(bench.edge.layer) == 0


def test_the_first_answer_wins_and_the_others_are_told_so(bench: Bench) -> None:
    pbx, one, two = bench.end(PBX), bench.end("203.0.113.1", 5062), bench.end("203.0.113.2", 5063)
    one.register()
    two.register(Contact="<sip:101@10.0.0.77:5062>;expires=600")
    pbx.send(invite(pbx))
    pbx.take(100)
    first, second = one.take("INVITE"), two.take("INVITE")
    two.answer(second, 180, "two")
    pbx.take(180)
    one.answer(first, 200, "one")
    ok = pbx.take(200)
    cancel = two.take("CANCEL")
    assert "completed elsewhere" in (cancel.get("reason") or "")
    two.answer(second, 200, "two")  # crossed the CANCEL: acknowledged and ended
    assert [m.method for m in two.taken()] == ["ACK", "BYE"]
    pbx.send(pbx.within(ok, "ACK", 1))
    one.take("ACK")


def test_a_2xx_comes_again_until_its_ack_and_the_call_ends_without(bench: Bench) -> None:
    pbx, phone = bench.end(PBX), bench.end("203.0.113.1", 5062)
    phone.register()
    pbx.send(invite(pbx))
    got = phone.take("INVITE")
    pbx.taken()
    phone.answer(got, 200, "x")
    bench.pass_time(40)
    came = pbx.taken()
    assert [m.status for m in came[:-1]].count(200) >= 10
    assert came[-1].method == "BYE" or any(m.method == "BYE" for m in came)
    assert [m.method for m in phone.taken()][:2] == ["ACK", "BYE"]


def test_busy_passes_and_is_acknowledged(bench: Bench) -> None:
    pbx, phone = bench.end(PBX), bench.end("203.0.113.1", 5062)
    phone.register()
    pbx.send(invite(pbx))
    got = phone.take("INVITE")
    phone.answer(got, 486, "x", Retry_After="5")
    phone.take("ACK")
    pbx.take(100)
    busy = pbx.take(486)
    assert busy.get("retry-after") == "5"
    pbx.send(ack_of(busy, "sip:101@acme.example"))
    bench.pass_time(40)
    pbx.nothing()
