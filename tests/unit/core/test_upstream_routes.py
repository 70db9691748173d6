"""Path and Service-Route (RFC 3327, RFC 3608), and nonces that serve more than once (RFC 7616)."""

from __future__ import annotations

import pytest

from sipd.message.auth import Credentials, digest_response, ha1
from sipd.routing.lookup import compile_table
from sipd.routing.model import Alternate, Table
from sipd.wayout import SERVICE_ROUTE_TEXT, SERVICE_ROUTES
from tests.unit.core.bench import PBX, Bench, End, credentials, table, tenant

ROUTE = "<sip:orig@scscf.example;lr>"
AOR, CALLED = "sip:101@acme.example", "sip:555@acme.example"


def routing(**of_connection: object) -> Table:
    return table(tenant("acme", strategy="on_behalf", extensions=("101",), of_connection=of_connection))


def granted(bench: Bench, pbx: End, **headers: str) -> None:
    """Register (again) upstream; the PBX's 200 has these headers."""
    bench.edge.renew("acme", None, bench.now)
    bench.pass_time(0.2)
    (request,) = pbx.taken()
    pbx.answer(request, 200, "t", Contact=request.get("contact") or "", **headers)


def started(*, host: str = PBX, port: int = 5060, **of_connection: object) -> tuple[Bench, End, End]:
    bench = Bench(routing(**of_connection))
    pbx, phone = bench.end(host, port), bench.end("203.0.113.1", 5062)
    bench.pass_time(0.1)
    (request,) = pbx.taken()
    pbx.answer(request, 200, "t", Contact=request.get("contact") or "")
    phone.register()
    return bench, pbx, phone


def sent_by(phone: End, pbx: End, method: str) -> str:
    """The Route of what the PBX gets when the phone sends this."""
    more = {"Contact": "<sip:101@10.0.0.9:5062>"}
    if method == "SUBSCRIBE":
        more["Event"] = "presence"
    call_id = f"{method}-{id(more)}"
    request = dict(from_=AOR, to=CALLED, call_id=call_id)  # noqa: C408 - arguments
    phone.send(phone.request(method, CALLED, **request, **more))
    more["Authorization"] = credentials(phone.take(401), "101", method, CALLED)
    phone.send(phone.request(method, CALLED, **request, **more))
    message = pbx.take(method)
    pbx.answer(message, 486 if method == "INVITE" else 480, "t")
    pbx.taken()
    phone.taken()
    return ", ".join(message.all("route"))


def test_register_says_that_path_is_understood() -> None:
    bench = Bench(routing())
    bench.pass_time(0.1)
    assert bench.end(PBX).take("REGISTER").get("supported") == "path"


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "SUBSCRIBE"])
def test_a_service_route_is_in_every_request_of_the_user_outside_a_dialog(method: str) -> None:
    bench, pbx, phone = started()
    assert sent_by(phone, pbx, method) == ""
    granted(bench, pbx, Service_Route=f"{ROUTE}, <sip:second.example;lr>")
    assert sent_by(phone, pbx, method) == f"{ROUTE}, <sip:second.example;lr>"


def test_it_is_sent_to_the_connection_all_the_same() -> None:
    """A PBX cannot make the edge send to places that nobody has configured."""
    bench, pbx, phone = started()
    granted(bench, pbx, Service_Route="<sip:203.0.113.99:25;lr>")
    sent_by(phone, pbx, "MESSAGE")
    assert not bench.end("203.0.113.99", 25).taken()
    assert not bench.edge.lookups_to_start()


def test_register_itself_does_not_take_it() -> None:
    bench, pbx, _ = started()
    granted(bench, pbx, Service_Route=ROUTE)
    bench.edge.renew("acme", None, bench.now)
    bench.pass_time(0.2)
    assert pbx.take("REGISTER").get("route") is None


def test_each_2xx_replaces_it() -> None:
    bench, pbx, phone = started()
    granted(bench, pbx, Service_Route=ROUTE)
    granted(bench, pbx, Service_Route="<sip:other.example;lr>")
    assert sent_by(phone, pbx, "MESSAGE") == "<sip:other.example;lr>"
    granted(bench, pbx)
    assert sent_by(phone, pbx, "MESSAGE") == ""


def test_a_refused_registration_loses_it() -> None:
    bench, pbx, phone = started()
    granted(bench, pbx, Service_Route=ROUTE)
    bench.edge.renew("acme", None, bench.now)
    bench.pass_time(0.2)
    pbx.answer(pbx.take("REGISTER"), 500, "t")
    assert sent_by(phone, pbx, "MESSAGE") == ""


def test_a_loose_outbound_proxy_comes_first() -> None:
    proxy = "sip:198.51.100.77:5070;lr"
    bench, pbx, phone = started(host="198.51.100.77", port=5070, outbound_proxy=proxy)
    granted(bench, pbx, Service_Route=ROUTE)
    assert sent_by(phone, pbx, "INVITE") == f"<{proxy}>, {ROUTE}"


def test_it_survives_a_restart() -> None:
    bench, pbx, _ = started()
    granted(bench, pbx, Service_Route=ROUTE)
    again = Bench()
    again.now = bench.now
    again.edge.restore(bench.edge.take_changes(), again.now)
    again.edge.load(compile_table(routing()), again.now)
    phone = again.end("203.0.113.1", 5063)
    phone.register()
    assert sent_by(phone, again.end(PBX), "MESSAGE") == ROUTE


def test_another_users_requests_do_not_take_it() -> None:
    bench = Bench(table(tenant("acme", strategy="on_behalf", extensions=("101", "102"))))
    pbx = bench.end(PBX)
    bench.pass_time(0.1)
    for request in pbx.taken():
        more = {"Service_Route": ROUTE} if request.to.uri.user == "102" else {}
        pbx.answer(request, 200, "t", Contact=request.get("contact") or "", **more)
    phone = bench.end("203.0.113.1", 5062)
    phone.register()
    assert sent_by(phone, pbx, "MESSAGE") == ""


@pytest.mark.parametrize(
    "value",
    [
        "<sip:strict.example>",
        "sip:bare.example;lr",
        "<tel:+4930;lr>",
        "<http://203.0.113.99/;lr>",
        "<sip:a b;lr>",
        "nonsense",
        f"<sip:{'x' * SERVICE_ROUTE_TEXT}.example;lr>",
        ", ".join([ROUTE] * (SERVICE_ROUTES + 1)),
        f"{ROUTE}, <sip:strict.example>",
    ],
)
def test_one_that_cannot_be_followed_is_as_none_and_counted(value: str) -> None:
    bench, pbx, phone = started()
    granted(bench, pbx, Service_Route=ROUTE)
    granted(bench, pbx, Service_Route=value)
    (state,) = bench.edge.registrations(None, bench.now)["upstream"]
    assert state["state"] == "registered"
    assert sent_by(phone, pbx, "MESSAGE") == ""
    assert bench.edge.counters["upstream.bad_service_route"] == 1


def test_nothing_is_kept_of_users_that_are_gone() -> None:
    bench, pbx, _ = started()
    granted(bench, pbx, Service_Route=ROUTE)
    bench.load(table(tenant("acme", extensions=())))
    assert not bench.edge.upstream.ways._service_routes


CHALLENGE = 'Digest realm="pbx.example", nonce="{}", algorithm=MD5, qop="auth"'


class TestNonces:
    def challenged(self, nonce: str = "one", challenge: str = CHALLENGE) -> tuple[Bench, End]:
        """Registered after a challenge."""
        bench = Bench(routing())
        bench.pass_time(0.1)
        pbx = bench.end(PBX)
        pbx.answer(pbx.take("REGISTER"), 401, "t", WWW_Authenticate=challenge.format(nonce))
        request = pbx.take("REGISTER")
        pbx.answer(request, 200, "t", Contact=request.get("contact") or "")
        return bench, pbx

    def renewed(self, bench: Bench, pbx: End) -> tuple[str, Credentials | None, End]:
        bench.edge.renew("acme", None, bench.now)
        bench.pass_time(0.2)
        (request,) = pbx.taken()
        self.request = request
        text = request.get("authorization")
        return request.call_id, Credentials.parse(text) if text else None, pbx

    def accept(self, pbx: End) -> None:
        pbx.answer(self.request, 200, "t", Contact=self.request.get("contact") or "")

    def test_the_nonce_of_the_last_time_is_answered_unasked_with_a_higher_count(self) -> None:
        bench, pbx = self.challenged()
        for count in (2, 3, 4):
            _, sent, _ = self.renewed(bench, pbx)
            assert sent is not None
            assert (sent.nonce, int(sent.nc, 16)) == ("one", count)
            assert sent.response == digest_response(sent, ha1("MD5", "101", "pbx.example", "pbx-secret"), "REGISTER")
            self.accept(pbx)
        assert bench.edge.counters["upstream.unchallenged"] == 3

    @pytest.mark.parametrize("stale", ["", ", stale=true"])
    def test_a_nonce_that_is_over_is_a_challenge_like_the_first(self, stale: str) -> None:
        bench, pbx = self.challenged()
        self.renewed(bench, pbx)
        pbx.answer(self.request, 401, "t", WWW_Authenticate=CHALLENGE.format("two") + stale)
        request = pbx.take("REGISTER")
        sent = Credentials.parse(request.get("authorization") or "")
        assert (sent.nonce, int(sent.nc, 16)) == ("two", 1)
        assert len(request.all("authorization")) == 1
        pbx.answer(request, 200, "t", Contact=request.get("contact") or "")
        (state,) = bench.edge.registrations(None, bench.now)["upstream"]
        assert state["state"] == "registered"

    def test_a_pbx_whose_nonces_do_not_last_is_asked_first_after_a_while(self) -> None:
        bench, pbx = self.challenged()
        signed = []
        for number in range(5):
            _, sent, _ = self.renewed(bench, pbx)
            signed.append(sent is not None)
            pbx.answer(self.request, 401, "t", WWW_Authenticate=CHALLENGE.format(number))
            self.request = pbx.take("REGISTER")
            self.accept(pbx)
        assert signed == [True, True, False, False, False]

    def test_a_password_that_is_wrong_by_now_ends_in_a_refusal(self) -> None:
        bench, pbx = self.challenged()
        self.renewed(bench, pbx)
        for nonce in ("two", "three"):
            pbx.answer(self.request, 401, "t", WWW_Authenticate=CHALLENGE.format(nonce))
            taken = pbx.taken()
            if taken:
                (self.request,) = taken
        pbx.nothing()
        (state,) = bench.edge.registrations(None, bench.now)["upstream"]
        assert (state["state"], state["code"]) == ("refused", 401)

    def test_a_nonce_without_counter_serves_once(self) -> None:
        bench, pbx = self.challenged(challenge='Digest realm="pbx.example", nonce="{}", algorithm=MD5')
        _, sent, _ = self.renewed(bench, pbx)
        assert sent is None

    def test_another_place_of_the_pbx_gets_none(self) -> None:
        bench, pbx = self.challenged()
        bench.load(routing(alternates=(Alternate(1, "198.51.100.20", 5060),)))
        bench.pass_time(0.2)
        pbx.answer(pbx.take("REGISTER"), 503, "t")
        bench.pass_time(0.2)
        assert bench.end("198.51.100.20").take("REGISTER").get("authorization") is None
