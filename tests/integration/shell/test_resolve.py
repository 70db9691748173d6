"""RFC 3263 against a name server on loopback: what is asked, and what comes out of the answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import dns.rcode
import pytest

from sipd.flow import Answer, Listener, Query, Target
from sipd.net import names, resolve
from sipd.net.resolve import Resolver, Srv, in_order
from tests.integration.shell.nameserver import NameServer

ZONE = """
pbx.example. 300 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.pbx.example.
pbx.example. 300 IN NAPTR 10 20 "s" "SIP+D2T" "" _sip._tcp.pbx.example.
pbx.example. 300 IN NAPTR 10 10 "s" "SIP+D2X" "" _sip._sctp.pbx.example.
_sip._tcp.pbx.example. 200 IN SRV 10 0 5070 a.pbx.example.
_sip._tcp.pbx.example. 200 IN SRV 20 0 5071 b.pbx.example.
_sip._udp.pbx.example. 120 IN SRV 10 0 5080 a.pbx.example.
_sips._tcp.pbx.example. 120 IN SRV 10 0 5090 a.pbx.example.
pbx.example. 90 IN A 192.0.2.99
a.pbx.example. 60 IN A 192.0.2.1
a.pbx.example. 40 IN AAAA 2001:db8::1
b.pbx.example. 60 IN CNAME c.pbx.example.
c.pbx.example. 30 IN A 192.0.2.3
plain.example. 50 IN A 192.0.2.7
plain.example. 50 IN A 192.0.2.8
gone.example. 50 IN TXT "no address here"
_sip._udp.none.example. 60 IN SRV 0 0 0 .
none.example. 60 IN A 192.0.2.66
_sip._udp.literal.example. 60 IN SRV 0 0 5077 192.0.2.44.
_sip._udp.half.example. 60 IN SRV 1 0 5060 nothing.half.example.
_sip._udp.half.example. 60 IN SRV 2 0 5061 a.pbx.example.
"""
UDP4 = Listener("udp", "127.0.0.1", 5060, "127.0.0.1", 5060)
TCP4 = UDP4._replace(transport="tcp")
TLS4 = UDP4._replace(transport="tls")
UDP6 = UDP4._replace(host="::1")
ALL = (UDP4, TCP4, TLS4)

Find = Callable[..., Awaitable[Answer]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hosts file but the test's, and little patience with the dead."""
    monkeypatch.setattr(names, "HOSTS", tmp_path / "hosts")
    monkeypatch.setattr(names, "TRY_SECONDS", 0.3)
    monkeypatch.setattr(names, "QUESTION_SECONDS", 1.0)


def run(body: Callable[[NameServer, Find], Awaitable[None]], zone: str = ZONE) -> None:
    async def whole() -> None:
        async with NameServer(zone) as server:
            answers: dict[Query, asyncio.Future[Answer]] = {}
            resolvers: list[Resolver] = []

            async def find(
                host: str, port: int = 0, transport: str = "auto", listeners: tuple[Listener, ...] = ALL
            ) -> Answer:
                query = Query(host, port, transport)
                answers[query] = asyncio.get_running_loop().create_future()
                resolver = Resolver(
                    lambda query, answer: answers[query].set_result(answer), {}, listeners, lambda n: 0,
                    [("127.0.0.1", server.port)],
                )  # fmt: skip
                resolvers.append(resolver)
                resolver.start(query)
                async with asyncio.timeout(20):
                    return await answers[query]

            try:
                await body(server, find)
            finally:
                for resolver in resolvers:
                    resolver.close()

    asyncio.run(whole())


def test_naptr_srv_and_addresses() -> None:
    async def body(server: NameServer, find: Find) -> None:
        answer = await find("pbx.example")
        assert answer.targets == (Target("192.0.2.1", 5070, "tcp"), Target("192.0.2.3", 5071, "tcp"))
        assert answer.ttl == 30  # the lowest of the chain

    run(body)


def test_naptr_names_only_what_our_listeners_support() -> None:
    async def body(server: NameServer, find: Find) -> None:
        answer = await find("pbx.example", listeners=(UDP4,))
        assert answer.targets == (Target("192.0.2.1", 5080, "udp"),)

    run(body)


def test_a_transport_that_is_given_needs_no_naptr() -> None:
    async def body(server: NameServer, find: Find) -> None:
        for transport, port in (("udp", 5080), ("tcp", 5070), ("tls", 5090)):
            answer = await find("pbx.example", 0, transport)
            assert answer.targets[0] == Target("192.0.2.1", port, transport)
        assert not [kind for _, kind in server.asked if kind == "NAPTR"]

    run(body)


def test_a_port_that_is_given_needs_addresses_only() -> None:
    async def body(server: NameServer, find: Find) -> None:
        for transport, taken in (("auto", "udp"), ("tcp", "tcp"), ("tls", "tls")):
            answer = await find("pbx.example", 5099, transport)
            assert answer == Answer((Target("192.0.2.99", 5099, taken),), 90)
        assert {kind for _, kind in server.asked} == {"A"}

    run(body)


def test_without_naptr_srv_tells_the_transport() -> None:
    zone = "\n".join(line for line in ZONE.splitlines() if "NAPTR" not in line and "_sip._udp.pbx" not in line)

    async def body(server: NameServer, find: Find) -> None:
        assert (await find("pbx.example")).targets[0] == Target("192.0.2.1", 5070, "tcp")

    run(body, zone)


@pytest.mark.parametrize(
    ("transport", "expected"), [("auto", ("udp", 5060)), ("tcp", ("tcp", 5060)), ("tls", ("tls", 5061))]
)
def test_without_srv_the_addresses_of_the_name_itself(transport: str, expected: tuple[str, int]) -> None:
    async def body(server: NameServer, find: Find) -> None:
        answer = await find("plain.example", 0, transport)
        assert {(t.host, t.port, t.transport) for t in answer.targets} == {
            (host, expected[1], expected[0]) for host in ("192.0.2.7", "192.0.2.8")
        }
        assert answer.ttl == 50

    run(body)


def test_both_families_where_both_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_routed", lambda address: True)

    async def body(server: NameServer, find: Find) -> None:
        answer = await find("a.pbx.example", 5060, "udp", (UDP4, UDP6))
        assert [t.host for t in answer.targets] == ["2001:db8::1", "192.0.2.1"]
        assert answer.ttl == 40
        assert [t.host for t in (await find("a.pbx.example", 5060, "udp")).targets] == ["192.0.2.1"]
        assert ("a.pbx.example", "AAAA") in server.asked

    run(body)


def test_an_address_without_a_route_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_routed", lambda address: ":" not in address)

    async def body(server: NameServer, find: Find) -> None:
        answer = await find("a.pbx.example", 5060, "udp", (UDP4, UDP6))
        assert [t.host for t in answer.targets] == ["192.0.2.1", "2001:db8::1"]

    run(body)


def test_a_service_that_is_decidedly_not_offered_is_no_way() -> None:
    async def body(server: NameServer, find: Find) -> None:
        assert await find("none.example", 0, "udp") == Answer((), 60)

    run(body)


def test_an_srv_target_that_is_an_address_is_taken() -> None:
    async def body(server: NameServer, find: Find) -> None:
        assert (await find("literal.example", 0, "udp")).targets == (Target("192.0.2.44", 5077, "udp"),)

    run(body)


def test_an_srv_target_without_an_address_is_left_out() -> None:
    async def body(server: NameServer, find: Find) -> None:
        assert (await find("half.example", 0, "udp")).targets == (Target("192.0.2.1", 5061, "udp"),)

    run(body)


def test_a_chain_that_the_server_leaves_to_us() -> None:
    async def body(server: NameServer, find: Find) -> None:
        server.whole_chains = False
        answer = await find("b.pbx.example", 5060, "udp")
        assert answer == Answer((Target("192.0.2.3", 5060, "udp"),), 30)

    run(body)


def test_a_chain_without_end_is_nothing() -> None:
    async def body(server: NameServer, find: Find) -> None:
        server.whole_chains = False
        assert not (await find("x.loop.example", 5060, "udp")).targets
        assert len(server.asked) <= names.CHAIN_LIMIT

    run(body, "x.loop.example. 60 IN CNAME y.loop.example.\ny.loop.example. 60 IN CNAME x.loop.example.")


@pytest.mark.parametrize("host", ["nowhere.invalid", "gone.example", "a" * 64 + ".example", "x..example"])
def test_a_name_that_has_nothing_is_known_to_have_nothing(host: str) -> None:
    async def body(server: NameServer, find: Find) -> None:
        answer = await find(host)
        assert not answer.targets
        assert answer.ttl > 0

    run(body)


@pytest.mark.parametrize(("minimum", "ttl"), [(0, 1.0), (45, 45.0), (900, 900.0)])
@pytest.mark.parametrize("host", ["nowhere.invalid", "gone.example"])
def test_the_zone_says_for_how_long_there_is_nothing(host: str, minimum: int, ttl: float) -> None:
    async def body(server: NameServer, find: Find) -> None:
        server.soa = f"ns.example. root.example. 1 2 3 4 {minimum}"
        assert await find(host) == Answer((), ttl)

    run(body)


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_a_server_that_fails_says_nothing_about_the_name(code: dns.rcode.Rcode) -> None:
    async def body(server: NameServer, find: Find) -> None:
        server.rcode = code
        assert await find("pbx.example") == Answer((), 0)

    run(body)


def test_a_server_that_is_silent_says_nothing_about_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "RESOLVE_SECONDS", 1.5)

    async def body(server: NameServer, find: Find) -> None:
        server.silent = True
        assert await find("pbx.example") == Answer((), 0)

    run(body)


def test_a_truncated_answer_is_asked_for_over_tcp() -> None:
    async def body(server: NameServer, find: Find) -> None:
        server.truncates = True
        assert len((await find("pbx.example")).targets) == 2
        assert server.over_tcp

    run(body)


def test_more_targets_than_the_limit() -> None:
    zone = "\n".join(f"_sip._udp.many.example. 60 IN SRV 1 0 {5000 + n} h{n}.many.example." for n in range(60))
    zone += "\n" + "\n".join(f"h{n}.many.example. 60 IN A 192.0.2.{n + 1}" for n in range(60))

    async def body(server: NameServer, find: Find) -> None:
        assert len((await find("many.example", 0, "udp")).targets) == resolve.TARGET_LIMIT
        assert len([1 for _, kind in server.asked if kind == "A"]) <= resolve.TARGET_LIMIT

    run(body, zone)


def test_the_hosts_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.77 PBX.example other # pbx2.example\nnonsense x\n\n::1 six.example\n")

    async def body(server: NameServer, find: Find) -> None:
        assert (await find("pbx.example")).targets == (Target("192.0.2.77", 5060, "udp"),)
        assert (await find("six.example", 0, "udp", (UDP6,))).targets == (Target("::1", 5060, "udp"),)
        assert (await find("localhost", 5070, "udp")).targets == (Target("127.0.0.1", 5070, "udp"),)
        assert not server.asked

    run(body)


class TestOrder:
    """RFC 2782: priority first, then chance by weight."""

    RECORDS = (Srv(20, 0, 5060, "last"), Srv(10, 60, 5060, "a"), Srv(10, 30, 5060, "b"), Srv(10, 0, 5060, "zero"))

    def test_the_lowest_number_first(self) -> None:
        assert [r.host for r in in_order(self.RECORDS, lambda n: n - 1)] == ["a", "b", "zero", "last"]

    def test_a_weight_of_zero_has_a_small_chance(self) -> None:
        assert [r.host for r in in_order(self.RECORDS, lambda n: 0)] == ["zero", "b", "a", "last"]

    def test_chances_are_as_the_weights(self) -> None:
        draw = random.Random(7).randrange
        first = [in_order(self.RECORDS, draw)[0].host for _ in range(3000)]
        assert 0.6 < first.count("a") / 3000 < 0.72
        assert 0.28 < first.count("b") / 3000 < 0.38
        assert first.count("zero") < 100
