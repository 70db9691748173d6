"""Who is let in, how fast, and who gets no answer (docs/decisions/0018)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.bans import EVENTS_PER_MINUTE
from sipd.buckets import Accounts, Buckets
from sipd.guard import KNOWN_FACTOR, place_of
from sipd.message.auth import Challenge, answer
from sipd.routing.model import Table
from tests.unit.core.bench import PASSWORD, PBX, Bench, End, credentials, two_tenants

ACME, AOR = "sip:acme.example", "sip:101@acme.example"
STRANGER = "198.51.100.99"


def bench_with(*, allowed: tuple[str, ...] = (), blocked: tuple[str, ...] = (), **settings: float) -> Bench:
    base = Bench()
    bench = Bench(settings=replace(base.settings, **settings))  # type: ignore[arg-type]
    bench.load(listed(allowed, blocked))
    return bench


def listed(allowed: tuple[str, ...] = (), blocked: tuple[str, ...] = ()) -> Table:
    table = two_tenants()
    return replace(table, installation=replace(table.installation, allowed=allowed, blocked=blocked))


def junk(end: End, number: int = 1, start: int = 0) -> None:
    """Calls of nobody to nobody, which is a failure each."""
    uri = "sip:900@nowhere.example"
    for one in range(start, start + number):
        end.send(end.request("INVITE", uri, from_="sip:x@nowhere.example", to=uri, call_id=f"junk{one}"))


def ask(end: End, call_id: str, user: str = "101", **headers: str) -> None:
    aor = f"sip:{user}@acme.example"
    contact = f"<sip:{user}@10.0.0.9:5062>"
    end.send(end.request("REGISTER", ACME, from_=aor, to=aor, call_id=call_id, Contact=contact, **headers))


def guess(end: End, user: str, number: int, password: str = "wrong") -> int:
    """Guess a password `number` times, each with a nonce of its own; how many guesses were answered."""
    heard = 0
    for one in range(number):
        ask(end, f"guess-{user}-{one}", user)
        ask(end, f"guess-{user}-{one}", user)  # so that the edge owes the answer
        challenges = [m for m in end.taken() if m.status == 401]
        if challenges:
            offered = credentials(challenges[-1], user, "REGISTER", ACME, password)
            ask(end, f"guess-{user}-{one}", user, Authorization=offered)
            heard += len(end.taken())
    return heard


def is_out(bench: Bench, host: str, transport: str = "udp") -> bool:
    return bench.edge.shuts_out(host, transport)


class TestSourceRules:
    @pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "wss"])
    def test_nothing_of_a_blocked_network_is_read(self, transport: str) -> None:
        bench = bench_with(blocked=("198.51.100.0/25", "2001:db8::/48"))
        for host in (PBX, STRANGER, "2001:db8:0:7::1"):
            assert is_out(bench, host, transport)
        for host in ("198.51.100.200", "203.0.113.1", "2001:db8:1::1"):
            assert not is_out(bench, host, transport)

    def test_what_is_blocked_gets_no_answer_though_it_is_a_pbx(self) -> None:
        bench = bench_with(blocked=(PBX,))
        pbx = bench.end(PBX)
        pbx.send(pbx.request("OPTIONS", "sip:192.0.2.1", from_="sip:x@y", to="sip:192.0.2.1", call_id="o"))
        pbx.nothing()

    def test_where_both_lists_hold_the_narrower_network_does(self) -> None:
        bench = bench_with(allowed=("198.51.100.99", "203.0.0.0/16"), blocked=("198.51.100.0/24", "203.0.113.0/24"))
        assert not is_out(bench, STRANGER)
        assert is_out(bench, "203.0.113.5")
        assert not is_out(bench, "203.0.112.5")

    def test_what_is_allowed_is_never_banned_and_always_answered(self) -> None:
        bench = bench_with(allowed=("198.51.100.0/24",), request_burst=10)
        end = bench.end(STRANGER)
        junk(end, 200)
        assert [m.status for m in end.taken()] == [403] * 200
        assert not bench.edge.bans()

    def test_a_table_that_allows_a_source_lifts_its_ban(self) -> None:
        bench = bench_with()
        junk(bench.end(STRANGER), 30)
        bench.load(listed(allowed=(STRANGER,)))
        assert not is_out(bench, STRANGER)
        assert not bench.edge.bans()

    @pytest.mark.parametrize("source", [STRANGER, f"{STRANGER}:5080", "198.51.100.96/29"])
    def test_a_pbx_that_was_a_stranger_before_it_was_entered_is_served(self, source: str) -> None:
        bench = bench_with()
        junk(bench.end(STRANGER), 30)
        assert is_out(bench, STRANGER)
        table = two_tenants()
        tenants = [
            replace(one, connections=(replace(one.connections[0], sources=(PBX, source)),)) for one in table.tenants
        ]
        bench.load(replace(table, tenants=tuple(tenants)))
        assert not is_out(bench, STRANGER)

    def test_a_pbx_in_a_banned_ipv6_network_too(self) -> None:
        bench = bench_with()
        junk(bench.end("2001:db8:0:7::99"), 30)
        table = two_tenants()
        first = table.tenants[0]
        link = replace(first.connections[0], sources=("2001:db8:0:7::1",))
        bench.load(replace(table, tenants=(replace(first, connections=(link,)), *table.tenants[1:])))
        assert not bench.edge.bans()


class TestBans:
    def test_they_grow_to_a_cap_and_end_and_each_is_told(self) -> None:
        bench = bench_with(mute_time=60, ban_longest=200)
        lengths, ends = [], []
        for _ in range(4):
            junk(bench.end(STRANGER), 30)
            (ban,) = bench.edge.bans()
            assert (ban["source"], ban["reason"], ban["since"]) == (STRANGER, "unknown-source", bench.now)
            assert is_out(bench, STRANGER)
            lengths.append(ban["until"] - bench.now)
            bench.pass_time(lengths[-1] + 0.1)
            assert not is_out(bench, STRANGER)
        events = bench.events()
        told = [e["detail"] for e in events if e["kind"] == "source.banned"]
        ends = [e["detail"] for e in events if e["kind"] == "source.unbanned"]
        assert lengths == [60, 120, 200, 200]
        assert [(d["seconds"], d["times"]) for d in told] == [(60, 1), (120, 2), (200, 3), (200, 4)]  # type: ignore[index]
        assert ends == [{"source": STRANGER, "reason": "time"}] * 4
        assert bench.edge.counters["guard.bans"] == 4

    def test_they_are_forgotten_after_good_behaviour(self) -> None:
        bench = bench_with(ban_forget=1000)
        for wait in (500, 2000, 0):
            junk(bench.end(STRANGER), 30)
            bench.pass_time(130 + wait)
        assert [d["detail"]["times"] for d in bench.events("source.banned")] == [1, 2, 1]  # type: ignore[index]

    def test_ipv6_is_banned_by_its_64(self) -> None:
        bench = bench_with()
        for number in range(30):
            junk(bench.end(f"2001:db8:0:7::{number:x}"), 1)
        assert [ban["source"] for ban in bench.edge.bans()] == ["2001:db8:0:7::/64"]
        assert is_out(bench, "2001:db8:0:7:ffff::1")
        assert not is_out(bench, "2001:db8:0:8::1")

    @pytest.mark.parametrize("source", [STRANGER, "2001:db8:0:7::/64", "2001:db8:0:7::99", "[2001:db8:0:7::99]"])
    def test_they_are_lifted_by_hand(self, source: str) -> None:
        bench = bench_with()
        junk(bench.end(STRANGER), 30)
        junk(bench.end("2001:db8:0:7::1"), 30)
        assert bench.edge.unban(source, bench.now)
        assert len(bench.edge.bans()) == 1
        assert not bench.edge.unban(source, bench.now)

    def test_events_of_many_bans_have_a_bound_and_all_are_counted(self) -> None:
        bench = bench_with(mute_after=1)
        for number in range(200):
            junk(bench.end(f"203.0.113.{number}"), 2)
        assert len(bench.events("source.banned")) == EVENTS_PER_MINUTE
        assert bench.edge.counters["guard.bans"] == 200
        assert bench.edge.counters["source.banned.untold"] == 200 - EVENTS_PER_MINUTE


class TestForgery:
    """Over UDP anybody can send in anybody's name."""

    def test_a_registered_phone_is_not_banned_and_served_on(self) -> None:
        bench = bench_with()
        phone = bench.end("203.0.113.1", 5062)
        phone.register()
        forged = bench.end("203.0.113.1", 6666)
        junk(forged, 3000)
        for _ in range(300):
            forged.send(b"junk")
        assert not bench.edge.bans()
        phone.register(expires=700)

    def test_a_pbx_is_not_banned(self) -> None:
        bench = bench_with(pbx_burst=1000)
        pbx = bench.end(PBX)
        junk(pbx, 3000)
        assert not bench.edge.bans()
        assert bench.edge.counters["guard.busy"] == 2000
        assert {m.status for m in pbx.taken()} == {404, 503}

    def test_a_pbx_that_is_only_called_is_no_stranger(self) -> None:
        """Its answers come late and twice, and its address may be none of its sources."""
        bench = bench_with()
        phone = bench.end("203.0.113.1", 5062)
        phone.register()
        phone.call("4930")
        pbx = bench.end(PBX)
        invite = pbx.take("INVITE")
        bench.load(listed())
        for number in range(2000):
            pbx.answer(invite, 486, tag=f"t{number}")
        assert not bench.edge.bans()

    def test_junk_over_udp_bans_a_stranger_over_udp_alone(self) -> None:
        bench = bench_with()
        junk(bench.end(STRANGER), 30)
        assert is_out(bench, STRANGER, "udp")
        assert not is_out(bench, STRANGER, "tcp")
        bench.end(STRANGER, 5070, "tcp").register()  # who authenticates is forgiven
        assert not is_out(bench, STRANGER, "udp")

    def test_junk_over_a_stream_bans_everywhere(self) -> None:
        bench = bench_with()
        junk(bench.end(STRANGER, 5070, "tcp"), 30)
        assert is_out(bench, STRANGER, "udp")
        assert is_out(bench, STRANGER, "tls")

    def test_a_nonce_of_mine_does_not_get_a_victim_locked_out(self) -> None:
        """Guesses in the victim's name, with a nonce that the attacker got for itself."""
        bench = bench_with()
        attacker = bench.end(STRANGER)
        ask(attacker, "n")
        offered = Challenge.parse(attacker.take(401).all("www-authenticate")[0])
        forged, victim = bench.end("203.0.113.1", 6666), bench.end("203.0.113.1", 5062)
        for number in range(1, 100):
            ask(forged, f"f{number}", Authorization=answer(offered, "101", "wrong", "REGISTER", ACME, number, "c"))
        forged.taken()
        assert not bench.edge.bans()
        assert bench.edge.counters["auth.wrong"] == 0
        ask(victim, "r")
        ask(victim, "r")
        ask(victim, "r", Authorization=credentials(victim.taken()[-1], "101", "REGISTER", ACME))
        victim.take(200)


class TestOffice:
    def test_500_phones_behind_one_address_register_anew_after_a_power_cut(self) -> None:
        """All ask before the first is answered; whoever gets no answer asks again, as RFC 3261 17.1.2 says."""
        bench = Bench(two_tenants())
        phones = [bench.end("203.0.113.1", 10_000 + number) for number in range(500)]
        asked = [p.request("REGISTER", ACME, from_=AOR, to=AOR, call_id=f"r{n}", Expires="60") for n, p in
                 enumerate(phones)]  # fmt: skip
        waiting, registered = set(range(500)), 0
        for _ in range(4):
            for number in sorted(waiting):
                phones[number].send(asked[number])
            for number in sorted(waiting):
                answers = phones[number].taken()
                if answers:
                    waiting.discard(number)
                    ask(phones[number], f"r{number}", Authorization=credentials(answers[-1], "101", "REGISTER", ACME))
                    registered += phones[number].take(200).status == 200
            bench.pass_time(0.5)
        assert registered == 500
        assert not bench.edge.bans()
        assert bench.edge.counters["guard.silent"] == bench.edge.counters["guard.busy"] == 0


class TestScanners:
    @pytest.mark.parametrize("agent", ["friendly-scanner", "SIPVicious/0.3", "sipcli/v1.8", "sip-scan"])
    def test_who_says_that_it_is_one_gets_no_answer_at_all(self, agent: str) -> None:
        bench = bench_with()
        end = bench.end(STRANGER)
        for method, uri in (("OPTIONS", "sip:100@192.0.2.1"), ("REGISTER", ACME), ("INVITE", AOR)):
            end.send(end.request(method, uri, from_=AOR, to=AOR, call_id=method, User_Agent=agent))
        end.nothing()
        assert bench.edge.counters["guard.silent.scanner"] == 3

    def test_it_is_banned_when_it_goes_on(self) -> None:
        bench = bench_with()
        end = bench.end(STRANGER)
        for number in range(30):
            end.send(end.request("OPTIONS", ACME, from_=AOR, to=AOR, call_id=f"o{number}", User_Agent="sipvicious"))
        assert [ban["reason"] for ban in bench.edge.bans()] == ["scanner"]

    def test_a_phone_that_is_called_like_one_is_served_where_it_is_known(self) -> None:
        bench = bench_with()
        phone = bench.end("203.0.113.1", 5062)
        phone.register()
        phone.register(User_Agent="sipcli phone")

    @pytest.mark.parametrize(
        ("method", "uri", "tries"),
        [
            ("OPTIONS", "sip:192.0.2.1", 250),
            ("OPTIONS", "sip:100@192.0.2.1", 30),
            ("REGISTER", "sip:192.0.2.1", 30),
            ("REGISTER", ACME, 2100),
            ("INVITE", "sip:100@192.0.2.1", 30),
            ("INVITE", AOR, 2100),
            ("CANCEL", AOR, 450),
            ("ACK", AOR, 2100),
            ("BYE", AOR, 1100),
        ],
    )
    def test_sweeps_end_in_a_ban(self, method: str, uri: str, tries: int) -> None:
        bench = bench_with()
        end = bench.end(STRANGER)
        for number in range(tries):
            sender = f"sip:{number}@{uri.rpartition('@')[2].removeprefix('sip:')}"
            end.send(end.request(method, uri, from_=sender, to=sender, call_id=f"s{number}"))
        assert len(bench.edge.bans()) == 1

    def test_bytes_that_are_no_sip_end_in_a_ban(self) -> None:
        bench = bench_with()
        for _ in range(30):
            bench.end(STRANGER).send(b"GET / HTTP/1.1\r\n\r\n")
        assert [ban["reason"] for ban in bench.edge.bans()] == ["malformed"]

    def test_answers_that_nobody_asked_for_end_in_a_ban(self) -> None:
        bench = bench_with()
        end = bench.end(STRANGER)
        asked = end.request("OPTIONS", ACME, from_=AOR, to=AOR, call_id="o").replace("OPTIONS sip:acme.example SIP/2.0",
                                                                                     "SIP/2.0 200 OK")  # fmt: skip
        for _ in range(500):
            end.send(asked)
        assert [ban["reason"] for ban in bench.edge.bans()] == ["stray"]


class TestGuessing:
    def test_a_stranger_is_banned_everywhere(self) -> None:
        bench = bench_with()
        end = bench.end(STRANGER)
        assert guess(end, "101", 40) <= 20
        assert [ban["reason"] for ban in bench.edge.bans()] == ["wrong-credentials"]
        assert is_out(bench, STRANGER, "tls")

    def test_behind_a_known_address_one_user_is_not_believed_for_a_while_and_nobody_is_banned(self) -> None:
        bench = bench_with()
        office = [bench.end("203.0.113.1", 5060 + number) for number in range(3)]
        office[0].register()
        assert guess(office[1], "102", 40) == 20
        assert guess(office[1], "102", 1, PASSWORD) == 0, "the right password is no hint either"
        assert not bench.edge.bans()
        office[0].register(expires=900)
        office[2].register(extension="101")
        bench.pass_time(60)
        office[2].register(extension="102")

    def test_the_phone_of_that_user_is_believed_where_it_is_registered(self) -> None:
        bench = bench_with()
        phone, other = (bench.end("203.0.113.1", port) for port in (5060, 5061))
        phone.register()
        guess(other, "101", 40)
        phone.register(expires=900)

    def test_a_known_address_is_silenced_when_it_fails_all_the_time(self) -> None:
        bench = bench_with(mute_after=2, tenant_failure_burst=100_000)
        bench.end("203.0.113.1", 5062).register()
        end = bench.end("203.0.113.1", 6000)
        junk(end, 200)
        assert len(end.taken()) == 2 * KNOWN_FACTOR
        assert not bench.edge.bans()

    def test_many_sources_that_guess_at_one_tenant_get_few_answers(self) -> None:
        bench = bench_with(tenant_failure_burst=30)
        heard = sum(guess(bench.end(f"203.0.113.{number}"), str(1000 + number), 2) for number in range(50))
        assert heard == 30
        assert not bench.edge.bans()
        bench.end("192.0.2.77").register()  # who has the right password gets in


class TestRates:
    def test_a_phone_that_is_too_fast_is_told_when_to_come_again(self) -> None:
        bench = bench_with(register_burst=10)
        phone = bench.end("203.0.113.1", 5062)
        phone.register()
        for number in range(30):
            ask(phone, f"m{number}")
        answers = phone.taken()
        assert answers[-1].status == 503
        assert answers[-1].get("retry-after")
        bench.pass_time(5)
        phone.register(expires=900)

    def test_what_is_forged_from_other_ports_does_not_use_up_a_phones_rate(self) -> None:
        bench = bench_with(register_burst=20)
        phone, forged = bench.end("203.0.113.1", 5062), bench.end("203.0.113.1", 6666)
        phone.register()
        for number in range(100):
            ask(forged, f"f{number}")
        assert bench.edge.counters["guard.silent.rate"]
        phone.register(expires=900)

    def test_a_stranger_that_floods_is_banned(self) -> None:
        bench = bench_with(register_burst=10)
        end = bench.end(STRANGER)
        for number in range(20):
            ask(end, f"f{number}")
        assert [ban["reason"] for ban in bench.edge.bans()] == ["rate"]

    def test_calls_that_are_up_go_on_whatever_the_rate(self) -> None:
        bench = bench_with(request_burst=5)
        phone, pbx = bench.end("203.0.113.1", 5062), bench.end(PBX)
        phone.register()
        phone.call("4930")
        pbx.answer(pbx.take("INVITE"), 200, "t")
        ok = phone.take(200)
        phone.send(phone.within(ok, "ACK", 2))
        junk(phone, 30)
        phone.taken()
        phone.send(phone.within(ok, "BYE", 99))
        phone.take(200)

    @pytest.mark.parametrize(("method", "setting"), [("REGISTER", "tenant_register_burst"), ("INVITE",
                             "tenant_request_burst")])  # fmt: skip
    def test_a_tenant_that_is_too_fast_gets_503_and_no_other_does(self, method: str, setting: str) -> None:
        bench = bench_with(**{setting: 3})
        statuses = []
        for number in range(5):
            phone = bench.end(f"203.0.113.{number}", 5062)
            phone.send(phone.request(method, ACME, from_=AOR, to=AOR, call_id=f"c{number}"))
            asked = phone.take(401)
            allowed = credentials(asked, "101", method, ACME)
            headers = {"Authorization": allowed, "Contact": "<sip:101@10.0.0.9>"}
            phone.send(phone.request(method, ACME, from_=AOR, to=AOR, call_id=f"c{number}", **headers))
            statuses.append(phone.taken()[-1].status)
        assert statuses[-2:] == [503, 503]
        assert 503 not in statuses[:3]
        bench.end("203.0.113.99").register("globex.example")


class TestMemory:
    def test_buckets_have_a_bound_and_forget_what_is_full(self) -> None:
        buckets = Buckets(rate=1.0, burst=10.0, most=100)
        for number in range(1000):
            assert buckets.take(number, 0.0)
        assert len(buckets) == 100
        for number in range(60):
            buckets.take(f"later {number}", 100.0)
        assert len(buckets) <= 60

    def test_a_bucket_refills_at_its_rate_and_no_further(self) -> None:
        buckets = Buckets(rate=2.0, burst=4.0)
        assert [buckets.take("a", 0.0) for _ in range(6)] == [True] * 4 + [False] * 2
        assert [buckets.take("a", 1.0) for _ in range(3)] == [True] * 2 + [False]
        assert [buckets.take("a", 1000.0) for _ in range(5)] == [True] * 4 + [False]

    def test_accounts_that_made_room_get_no_second_larger_answer(self) -> None:
        accounts = Accounts(most=10)
        assert accounts.pay("first", 1000, 0.0)
        for number in range(20):
            accounts.heard(str(number), 10, 1.0)
        assert len(accounts) == 10
        assert not accounts.pay("first", 1000, 2.0)

    @pytest.mark.parametrize(("host", "place"), [
        ("192.0.2.1", "192.0.2.1"), ("2001:db8:0:7:1:2:3:4", "2001:db8:0:7::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::/64"),
    ])  # fmt: skip
    def test_places(self, host: str, place: str) -> None:
        assert place_of(host) == place
