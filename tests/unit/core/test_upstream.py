"""Upstream registrations: the Contact rule, digest, refresh, back-off, what a new table changes, restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.flow import Answer
from sipd.message.auth import Credentials, digest_response, ha1
from sipd.message.message import Message
from sipd.routing.lookup import compile_table
from sipd.routing.model import Table
from tests.unit.core.bench import PBX, Bench, End, found, table, tenant, two_tenants

MD5 = 'Digest realm="pbx.example", nonce="{}", algorithm=MD5, qop="auth"'


def one_user(*, mode: bool = True, **more: object) -> Table:
    return table(tenant("acme", mode=mode, strategy="on_behalf", extensions=("101",), **more))


def started(routing: Table) -> tuple[Bench, End]:
    bench = Bench(routing)
    bench.pass_time(0.1)
    return bench, bench.end(PBX)


def registered(mode: bool = True) -> tuple[Bench, End, Message]:
    bench, pbx = started(one_user(mode=mode))
    first = pbx.take("REGISTER")
    grant(pbx, first)
    return bench, pbx, first


def grant(pbx: End, request: Message, seconds: int = 600) -> None:
    pbx.answer(request, 200, "t", Contact=f"<{request.contacts[0].uri_text}>;expires={seconds}")


def state(bench: Bench) -> dict[str, object]:
    (only,) = bench.edge.registrations(None, bench.now)["upstream"]
    return only


@pytest.mark.parametrize(
    ("mode", "contact"),
    [(True, "sip:101@acme.example"), (False, "sip:101@192.0.2.1:5060;local-domain=acme.example")],
)
def test_the_contact_rule(mode: bool, contact: str) -> None:
    _, pbx = started(one_user(mode=mode))
    request = pbx.take("REGISTER")
    assert request.uri == "sip:pbx.example"
    assert request.to.uri_text == request.from_.uri_text == "sip:101@pbx.example"
    assert request.to.tag is None
    assert [c.uri_text for c in request.contacts] == [contact]


def test_two_tenants_each_name_their_own_domain() -> None:
    _, pbx = started(two_tenants(strategy="on_behalf"))
    hosts = sorted(m.contacts[0].uri.host for m in pbx.taken())
    assert hosts == ["acme.example"] * 2 + ["globex.example"] * 2


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("status", [401, 407])
def test_it_answers_the_challenge(algorithm: str, status: int) -> None:
    bench, pbx = started(one_user())
    first = pbx.take("REGISTER")
    name = "WWW_Authenticate" if status == 401 else "Proxy_Authenticate"
    pbx.answer(first, status, "t", **{name: f'Digest realm="r", nonce="n1", algorithm={algorithm}, qop="auth"'})
    second = pbx.take("REGISTER")
    assert second.call_id == first.call_id
    assert second.cseq.number == first.cseq.number + 1
    sent = Credentials.parse(second.get("authorization" if status == 401 else "proxy-authorization") or "")
    secret = ha1(algorithm, "101", "r", "pbx-secret")
    assert sent.response == digest_response(sent, secret, "REGISTER")
    assert second.contacts[0].uri_text == "sip:101@acme.example"
    grant(pbx, second)
    assert state(bench)["state"] == "registered"


def test_a_second_challenge_with_the_same_nonce_is_a_refusal() -> None:
    bench, pbx = started(one_user())
    for _ in range(2):
        pbx.answer(pbx.take("REGISTER"), 401, "t", WWW_Authenticate=MD5.format("same"))
    pbx.nothing()
    assert (state(bench)["state"], state(bench)["code"]) == ("refused", 401)


def test_a_stale_nonce_is_answered_again() -> None:
    bench, pbx = started(one_user())
    pbx.answer(pbx.take("REGISTER"), 401, "t", WWW_Authenticate=MD5.format("one"))
    pbx.answer(pbx.take("REGISTER"), 401, "t", WWW_Authenticate=MD5.format("two") + ", stale=true")
    grant(pbx, pbx.take("REGISTER"))
    assert state(bench)["state"] == "registered"


def test_refresh_comes_before_expiry_with_the_same_call_id_and_a_rising_cseq() -> None:
    bench, pbx, first = registered()
    bench.pass_time(600 * 0.5 - 1)
    pbx.nothing()
    bench.pass_time(600 * 0.4 + 1)
    again = pbx.take("REGISTER")
    assert again.call_id == first.call_id
    assert again.cseq.number > first.cseq.number
    assert again.contacts[0].uri_text == first.contacts[0].uri_text


def test_the_granted_time_counts_not_the_asked() -> None:
    bench, pbx = started(one_user())
    grant(pbx, pbx.take("REGISTER"), 60)
    bench.pass_time(55)
    pbx.take("REGISTER")


@pytest.mark.parametrize(
    "listed",
    [
        "<sip:101@203.0.113.9:1024;rinstance=7>;expires=60",
        "<sip:77@192.0.2.9>;expires=9000, <sip:101@203.0.113.9:1024>;expires=60",
        '<sip:gw@203.0.113.9>;expires="60"',
    ],
)
def test_the_time_of_a_contact_that_the_pbx_rewrote(listed: str) -> None:
    """Some answer with the address that they saw: taken for another's, the binding would be over before its refresh."""
    bench, pbx = started(one_user())
    pbx.answer(pbx.take("REGISTER"), 200, "t", Contact=listed)
    bench.pass_time(55)
    pbx.take("REGISTER")


def test_what_others_bound_does_not_make_the_pbx_silent() -> None:
    bench, pbx = started(one_user())
    pbx.answer(pbx.take("REGISTER"), 200, "t", Contact="<sip:1 2@[::>;expires=60", Date="Wed, 25 Nov 2026 20:00:00 CET")
    assert state(bench)["state"] == "registered"


def test_423_asks_for_longer() -> None:
    bench, pbx = started(one_user())
    pbx.answer(pbx.take("REGISTER"), 423, "t", Min_Expires="1800")
    bench.pass_time(0.1)
    assert pbx.take("REGISTER").expires == 1800


def test_423_that_demands_more_each_time_is_a_refusal() -> None:
    bench, pbx = started(one_user())
    asked = []
    for least in range(1000, 1400, 100):
        request = pbx.take("REGISTER")
        asked.append(request.expires)
        pbx.answer(request, 423, "t", Min_Expires=str(least))
        bench.pass_time(0.1)
        if state(bench)["state"] == "refused":
            assert not pbx.taken()
            bench.pass_time(float(state(bench)["next"]) - bench.now + 0.01)  # type: ignore[arg-type]
    assert asked == [600, 1000, 1100, 1200]
    assert state(bench)["code"] == 423
    pbx.answer(pbx.take("REGISTER"), 200, "t")
    assert state(bench)["state"] == "registered"


def test_refusals_are_tried_again_later_and_later() -> None:
    bench, pbx = started(one_user())
    waits, last = [], bench.now
    for _ in range(4):
        request = pbx.take("REGISTER")
        waits.append(bench.now - last)
        last = bench.now
        pbx.answer(request, 403, "t")
        assert state(bench)["state"] == "refused"
        bench.pass_time(float(state(bench)["next"]) - bench.now + 0.01)  # type: ignore[arg-type]
    assert waits[1] < waits[2] < waits[3]
    assert next(e["detail"]["code"] for e in bench.events("registration.changed")) == 403  # type: ignore[index]


def test_no_wait_after_a_refusal_is_longer_than_the_cap() -> None:
    bench, pbx = started(one_user())
    for _ in range(12):
        pbx.answer(pbx.take("REGISTER"), 403, "t")
        wait = float(state(bench)["next"]) - bench.now  # type: ignore[arg-type]
        bench.pass_time(wait + 0.01)
    assert bench.settings.retry_cap * 0.8 <= wait <= bench.settings.retry_cap * 1.2


def test_success_ends_the_back_off() -> None:
    bench, pbx = started(one_user())
    for status in (403, 403, 403, 200):
        pbx.answer(pbx.take("REGISTER"), status, "t")
        bench.pass_time(float(state(bench)["next"]) - bench.now + 0.01)  # type: ignore[arg-type]
    pbx.answer(pbx.take("REGISTER"), 500, "t")
    assert float(state(bench)["next"]) - bench.now <= bench.settings.retry_first * 1.2  # type: ignore[arg-type]


def test_a_load_leaves_the_back_off_of_what_did_not_change() -> None:
    bench, pbx = started(one_user())
    pbx.answer(pbx.take("REGISTER"), 503, "t", Retry_After="900")
    before = state(bench)
    (acme,) = one_user().tenants
    more = tenant("acme", strategy="on_behalf", extensions=("101", "102"))
    for changed in (replace(acme, name="Renamed"), more):
        bench.load(table(changed))
        bench.pass_time(1)
    assert {request.to.uri.user for request in pbx.taken()} == {"102"}
    (row,) = [row for row in bench.edge.registrations(None, bench.now)["upstream"] if row["user"] == "acme-101"]
    assert row == before


def test_a_changed_password_is_tried_at_once() -> None:
    bench, pbx = started(one_user())
    pbx.answer(pbx.take("REGISTER"), 403, "t", Retry_After="900")
    (acme,) = one_user().tenants
    (one,) = acme.users
    bench.load(table(replace(acme, users=(replace(one, upstream=(replace(one.upstream[0], auth_username="x"),)),))))
    bench.pass_time(0.1)
    pbx.take("REGISTER")


def test_retry_after_is_kept() -> None:
    bench, pbx = started(one_user())
    pbx.answer(pbx.take("REGISTER"), 503, "t", Retry_After="120")
    assert float(state(bench)["next"]) - bench.now >= 120  # type: ignore[arg-type]


def test_a_silent_pbx_is_unreachable() -> None:
    bench, pbx = started(one_user())
    bench.pass_time(33)
    assert len(pbx.taken()) > 8
    assert state(bench)["state"] == "unreachable"


def test_switching_the_mode_removes_the_old_contact_then_registers_the_new() -> None:
    bench, pbx, first = registered(mode=False)
    bench.load(one_user(mode=True))
    bench.pass_time(0.1)
    leaving = pbx.take("REGISTER")
    assert leaving.expires == 0
    assert leaving.contacts[0].uri_text == first.contacts[0].uri_text
    pbx.nothing()
    grant(pbx, leaving, 0)
    bench.pass_time(0.1)
    new = pbx.take("REGISTER")
    assert new.contacts[0].uri_text == "sip:101@acme.example"
    assert new.call_id == first.call_id
    assert new.cseq.number > leaving.cseq.number > first.cseq.number


def test_a_removed_user_is_unregistered() -> None:
    bench, pbx, _ = registered()
    bench.load(table(tenant("acme", extensions=())))
    bench.pass_time(0.1)
    leaving = pbx.take("REGISTER")
    assert leaving.expires == 0
    grant(pbx, leaving, 0)
    assert bench.edge.registrations(None, bench.now)["upstream"] == []


def test_a_suspended_tenant_is_unregistered() -> None:
    bench, pbx, _ = registered()
    (acme,) = one_user().tenants
    bench.load(table(replace(acme, suspended=True)))
    bench.pass_time(0.1)
    assert pbx.take("REGISTER").expires == 0


def test_an_unchanged_table_sends_nothing() -> None:
    bench, pbx, _ = registered()
    bench.load(one_user())
    bench.pass_time(5)
    pbx.nothing()


def test_many_are_sent_at_the_pace() -> None:
    extensions = tuple(str(number) for number in range(100, 300))
    bench = Bench(table(tenant("acme", strategy="on_behalf", extensions=extensions)))
    pbx = bench.end(PBX)
    bench.pass_time(1.0)
    firsts = {m.call_id for m in pbx.taken()}
    assert 45 <= len(firsts) <= 55
    bench.pass_time(3.2)
    firsts |= {m.call_id for m in pbx.taken()}
    assert len(firsts) == 200


def test_renew_sends_at_once() -> None:
    bench, pbx, _ = registered()
    assert bench.edge.renew("acme", None, bench.now) == 1
    bench.pass_time(0.1)
    pbx.take("REGISTER")


def test_a_restart_goes_on_where_it_was() -> None:
    bench, _, first = registered()
    changes = bench.edge.take_changes()
    bench.pass_time(10)
    again = Bench()
    again.now = bench.now
    again.edge.restore(changes, again.now)
    again.edge.load(compile_table(one_user()), again.now)
    again.collect()
    pbx = again.end(PBX)
    again.pass_time(100)
    pbx.nothing()
    assert state(again)["state"] == "registered"
    again.pass_time(450)
    later = pbx.take("REGISTER")
    assert later.call_id == first.call_id
    assert later.cseq.number > first.cseq.number


def test_what_was_removed_while_the_node_was_down_leaves_the_store() -> None:
    bench, _, _ = registered()
    again = Bench()
    again.edge.restore(bench.edge.take_changes(), again.now)
    again.edge.load(compile_table(table(tenant("acme", extensions=()))), again.now)
    assert [(kind, record) for kind, _, record in again.edge.take_changes()] == [("upstream", None)]


def test_an_outbound_proxy_gets_the_request_and_a_route() -> None:
    proxy = {"outbound_proxy": "sip:198.51.100.77:5070;lr"}
    bench = Bench(one_user(of_connection=proxy))
    bench.pass_time(0.1)
    request = bench.end("198.51.100.77", 5070).take("REGISTER")
    assert request.get("route") == "<sip:198.51.100.77:5070;lr>"
    assert request.uri == "sip:pbx.example"


def test_a_name_is_looked_up_first() -> None:
    bench = Bench(one_user(of_connection={"host": "sip.pbx.example"}))
    bench.pass_time(0.1)
    (query,) = bench.edge.lookups_to_start()
    assert query.host == "sip.pbx.example"
    bench.edge.resolved(query, found("198.51.100.50"), bench.now)
    bench.collect()
    bench.end("198.51.100.50").take("REGISTER")


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    bench = Bench(one_user(of_connection={"host": "sip.pbx.example"}))
    bench.pass_time(0.1)
    (query,) = bench.edge.lookups_to_start()
    bench.edge.resolved(query, Answer(), bench.now)
    assert state(bench)["state"] == "unreachable"


def over_tcp() -> Table:
    return one_user(of_connection={"transport": "tcp"})


def test_a_lost_stream_is_registered_again() -> None:
    bench = Bench(over_tcp())
    bench.pass_time(0.1)
    pbx = bench.end(PBX, 5060, "tcp")
    grant(pbx, pbx.take("REGISTER"))
    bench.edge.flow_lost(pbx.flow, bench.now)
    bench.pass_time(0.1)
    grant(pbx, pbx.take("REGISTER"))
    assert state(bench)["state"] == "registered"
    bench.edge.flow_lost(bench.end("203.0.113.9", 5060, "tcp").flow, bench.now)
    bench.pass_time(1)
    pbx.nothing()


def test_after_a_restart_streams_are_registered_again() -> None:
    bench = Bench(over_tcp())
    bench.pass_time(0.1)
    pbx = bench.end(PBX, 5060, "tcp")
    grant(pbx, pbx.take("REGISTER"))
    again = Bench()
    again.edge.restore(bench.edge.take_changes(), again.now)
    again.edge.load(compile_table(over_tcp()), again.now)
    again.pass_time(0.1)
    again.end(PBX, 5060, "tcp").take("REGISTER")


def test_many_pbxs_are_sent_at_the_pace_of_the_node() -> None:
    tenants = (
        tenant(
            f"t{n}", strategy="on_behalf", extensions=("101",), of_connection={"host": f"198.51.{n // 250}.{n % 250}"}
        )
        for n in range(1000)
    )
    bench = Bench(table(*tenants))
    bench.pass_time(0.49)
    assert 240 <= len({data for data, _ in bench.sent}) <= 260
