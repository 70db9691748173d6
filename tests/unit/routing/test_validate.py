"""Faults go in one at a time; each must be found, be the only thing found, and be named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given

from sipd.routing import codec, model
from sipd.routing.decision import explain
from sipd.routing.lookup import compile_table
from sipd.routing.model import (
    Alternate,
    Installation,
    Limits,
    Member,
    Number,
    Opening,
    OutboundRule,
    Table,
    Tenant,
    UpstreamAccount,
    User,
)
from sipd.routing.problem import Problem
from sipd.routing.validate import Index, check_across, check_installation, check_tenant, contribution, validate
from tests import strategies
from tests.unit.routing.cast import (
    ACME,
    GLOBEX,
    INSTALLATION,
    SEALED,
    TABLE,
    connection,
    group,
    guard,
    schedule,
    tenant,
    user,
)


def acme(**changes: object) -> list[Problem]:
    return check_tenant(replace(ACME, **changes), INSTALLATION)  # type: ignore[arg-type]


def with_user(**changes: object) -> list[Problem]:
    return acme(users=(user("101", **changes), user("102")))


def with_connection(**changes: object) -> list[Problem]:
    return acme(connections=(connection(**changes),))


def with_account(**changes: object) -> list[Problem]:
    account = replace(ACME.users[0].upstream[0], **changes)  # type: ignore[arg-type]
    return with_user(upstream=(account,))


def with_number(number: str = "+4930123456", **changes: Any) -> list[Problem]:
    return acme(numbers=(Number("acme-n", number, **changes),))


def with_rule(**changes: object) -> list[Problem]:
    return acme(outbound=(replace(ACME.outbound[0], **changes),))  # type: ignore[arg-type]


def with_group(**changes: Any) -> list[Problem]:
    return acme(groups=(group(**changes),), schedules=(schedule(),))


def with_schedule(**changes: object) -> list[Problem]:
    return acme(schedules=(schedule(**changes),))


def with_openings(*openings: tuple[int, str, str]) -> list[Problem]:
    return with_schedule(openings=tuple(Opening(*each) for each in openings))


def with_rules(*rules: OutboundRule) -> list[Problem]:
    spare = connection(id="spare", strategy="none", sources=("198.51.100.3",))
    off = connection(id="off", strategy="none", enabled=False)
    return acme(connections=(connection(), spare, off), outbound=rules)


def pattern(text: str, position: int = 1, **changes: Any) -> OutboundRule:
    return replace(OutboundRule("p", position, "", 0, "", "acme-pbx", text), **changes)


def with_alternates(*places: tuple[str, int], **changes: object) -> list[Problem]:
    alternates = tuple(Alternate(turn, host, port) for turn, (host, port) in enumerate(places))
    return with_connection(alternates=alternates, **changes)


def with_guard(**changes: object) -> list[Problem]:
    return acme(guards=(guard(**changes),), schedules=(schedule(),))


def relaying(*people: User, **changes: object) -> list[Problem]:
    """acme, whose phones register at the PBX themselves."""
    link = connection(strategy="relay")
    return acme(**{"users": people or (relayed("101"), relayed("102")), "connections": (link,), **changes})


def relayed(extension: str, username: str = "", password: str = "", **changes: object) -> User:
    account = UpstreamAccount("acme-pbx", username or extension, "", password)
    return user(extension, **{"upstream": (account,), "ha1_md5": "", "ha1_sha256": "", **changes})


def in_blocked(tenant: Tenant, *blocked: str, allowed: tuple[str, ...] = ()) -> list[Problem]:
    return validate(Table(replace(INSTALLATION, blocked=blocked, allowed=allowed), (tenant,)))


def protected(**changes: object) -> list[Problem]:
    return check_installation(replace(INSTALLATION, **changes))  # type: ignore[arg-type]


def summary(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.severity, problem.path) for problem in problems]


USER = "tenants[acme].users[101]"
PBX = "tenants[acme].connections[acme-pbx]"
ACCOUNT = f"{USER}.upstream[acme-pbx]"
NUMBER = "tenants[acme].numbers[+4930123456]"
RULE = "tenants[acme].outbound[acme-r]"
GROUP = "tenants[acme].groups[600]"
HOURS = "tenants[acme].schedules[hours]"
PATTERN = "tenants[acme].outbound[p]"
GUARD = "tenants[acme].guards[00882]"
SECOND = f"{PBX}.alternates[b.example]"

ERRORS = [
    # The tenant and its domains.
    (acme(id="a b"), "tenants[acme].id", "'a b' is no id"),
    (acme(slug="Acme"), "tenants[Acme].slug", "lower-case letters"),
    (acme(slug="a" * 64), f"tenants[{'a' * 64}].slug", "1 to 63"),
    (acme(name=" "), "tenants[acme].name", "empty"),
    (acme(name="x" * 201), "tenants[acme].name", "has 201 characters; the limit for a name is 200"),
    (acme(name='A "B" C'), "tenants[acme].name", 'holds "'),
    (acme(name="Joe's"), "tenants[acme].name", "write ’ instead"),
    (acme(name="A; B"), "tenants[acme].name", "holds ;"),
    (acme(name="A # B"), "tenants[acme].name", "holds #"),
    (acme(name='A\nalias="owned.example"'), "tenants[acme].name", "control character U+000A"),
    (acme(name="A\u202eB"), "tenants[acme].name", "control character U+202E"),
    (acme(primary_domain="Acme.example"), "tenants[acme].primary_domain", "in lower case: 'acme.example'"),
    (acme(primary_domain="acme.example."), "tenants[acme].primary_domain", "without: 'acme.example'"),
    (acme(primary_domain="büro.example"), "tenants[acme].primary_domain", "'xn--bro-hoa.example'"),
    (acme(primary_domain="acme"), "tenants[acme].primary_domain", "has no dot"),
    (acme(primary_domain=""), "tenants[acme].primary_domain", "empty"),
    (acme(primary_domain="-a.example"), "tenants[acme].primary_domain", "is not a domain"),
    (acme(primary_domain="a..example"), "tenants[acme].primary_domain", "is not a domain"),
    (acme(primary_domain="a.1"), "tenants[acme].primary_domain", "the last one is no number"),
    (acme(primary_domain="a." * 130 + "example"), "tenants[acme].primary_domain", "the limit for a domain is 253"),
    (acme(primary_domain="203.0.113.9"), "tenants[acme].primary_domain", "is an IP address"),
    (acme(primary_domain="[2001:db8::1]"), "tenants[acme].primary_domain", "is an IP address"),
    (acme(primary_domain="voice.example"), "tenants[acme].primary_domain", "the platform's own domain"),
    (acme(primary_domain="edge.voice.example"), "tenants[acme].primary_domain", "a host of the edge itself"),
    (acme(alias_domains=("acme.example",)), "tenants[acme].alias_domains[0]", "is the primary domain already"),
    (acme(alias_domains=("a.example", "a.example")), "tenants[acme].alias_domains[1]", "in this list twice"),
    (acme(alias_domains=("voice.example",)), "tenants[acme].alias_domains[0]", "the platform's own domain"),
    (acme(default_connection="gone"), "tenants[acme].default_connection", "'gone' is no connection of this tenant"),
    (acme(limits=Limits(calls=0)), "tenants[acme].limits.calls", "0 is out of range; concurrent calls: 1 to 100000"),
    (acme(limits=Limits(calls_per_second=10**30)), "tenants[acme].limits.calls_per_second", "1 to 10000"),
    # Users.
    (acme(numbers=(), users=(user("101", id=""),)), f"{USER}.id", "1 to 64 letters"),
    (with_user(extension="1 1"), "tenants[acme].users[0].extension", "'1 1' is no extension"),
    (with_user(extension="*1"), "tenants[acme].users[0].extension", "begins with a letter"),
    (with_user(extension="1" * 65), "tenants[acme].users[0].extension", "1 to 64"),
    (with_user(name="a\x00"), f"{USER}.name", "U+0000"),
    (with_user(ha1_md5="5f4dcc3b5aa765d61d8327deb882cf99"), f"{USER}.ha1_md5", "not sealed"),
    (with_user(ha1_sha256="siv1:" + "é" * 30), f"{USER}.ha1_sha256", "not sealed"),
    (with_user(aliases=("a", "a")), f"{USER}.aliases[1]", "twice"),
    (with_user(aliases=("102",)), f"{USER}.aliases[0]", "'102' is the extension of 'User 102' already"),
    (with_user(aliases=("101",)), f"{USER}.aliases[0]", "'101' is the extension of 'User 101' already"),
    (with_user(aliases=("a;b",)), f"{USER}.aliases[0]", "no extension"),
    (with_user(ring_seconds=4), f"{USER}.ring_seconds", "4 is out of range; seconds of ringing: 5 to 600"),
    (with_user(max_bindings=33), f"{USER}.max_bindings", "1 to 32"),
    (with_user(limits=Limits(calls=-1)), f"{USER}.limits.calls", "-1 is out of range"),
    (with_user(forward_busy="00 49"), f"{USER}.forward_busy", "cannot be dialled"),
    (with_user(forward_always="101"), f"{USER}.forward_always", "circle without end: '101', '101'"),
    (
        acme(users=(user("101"), user("101", id="x", upstream=(), enabled=False))),
        f"{USER}.extension",
        "'101' is the extension of 'User 101'",
    ),
    (acme(users=(user("101"), user("102", id="acme-101"))), "tenants[acme].users[102].id", "in users twice"),
    # Accounts at the PBX.
    (with_account(username=""), f"{ACCOUNT}.username", "is missing"),
    (with_account(username="a b"), f"{ACCOUNT}.username", "no user name for a SIP address"),
    (with_account(auth_username='a"'), f"{ACCOUNT}.auth_username", "no user name for the digest"),
    (with_account(password=""), f"{ACCOUNT}.password", "The password at the PBX is missing"),
    (with_account(password="hunter2"), f"{ACCOUNT}.password", "not sealed"),
    (
        with_user(upstream=(*ACME.users[0].upstream, UpstreamAccount("acme-pbx", "x", "", SEALED))),
        f"{ACCOUNT}.connection",
        "two accounts for the connection 'acme-pbx'",
    ),
    # Connections.
    (with_connection(name="a#b"), f"{PBX}.name", "holds #"),
    (with_connection(registrar_domain=""), f"{PBX}.registrar_domain", "empty"),
    (with_connection(registrar_domain="PBX.example"), f"{PBX}.registrar_domain", "'pbx.example'"),
    (with_connection(host="pbx_1"), f"{PBX}.host", "is not a host"),
    (with_connection(host="[2001:db8::1]"), f"{PBX}.host", "is not a host"),
    (with_connection(host="2001:DB8::1"), f"{PBX}.host", "write it as '2001:db8::1'"),
    (with_connection(host="::ffff:192.0.2.1"), f"{PBX}.host", "write it as '192.0.2.1'"),
    (with_connection(host="fe80::1%eth0"), f"{PBX}.host", "has a zone"),
    (with_connection(host="0.0.0.0"), f"{PBX}.host", "no single machine"),
    (with_connection(host="192.0.2.250"), f"{PBX}.host", "is the edge itself"),
    (with_connection(host="voice.example", port=5060), f"{PBX}.host", "is the edge itself"),
    (with_connection(port=65536), f"{PBX}.port", "0 to 65535"),
    (with_connection(transport="sctp"), f"{PBX}.transport", "'sctp' is not known here; choose one of udp, tcp"),
    (with_connection(strategy="proxy"), f"{PBX}.strategy", "choose one of on_behalf, relay, none"),
    (with_connection(internal_calls=""), f"{PBX}.internal_calls", "choose one of"),
    (with_connection(expires=59), f"{PBX}.expires", "60 to 86400"),
    (with_connection(limits=Limits(calls=100_001)), f"{PBX}.limits.calls", "1 to 100000"),
    (with_connection(outbound_proxy="proxy.example"), f"{PBX}.outbound_proxy", "does not begin with sip:"),
    (with_connection(outbound_proxy="sips:proxy.example"), f"{PBX}.outbound_proxy", "does not begin with sip:"),
    (with_connection(outbound_proxy="sip:a@proxy.example"), f"{PBX}.outbound_proxy", "has a user"),
    (with_connection(outbound_proxy="sip:proxy.example?a=b"), f"{PBX}.outbound_proxy", "headers"),
    (with_connection(outbound_proxy="sip:proxy.example:0"), f"{PBX}.outbound_proxy", "the port '0'"),
    (with_connection(outbound_proxy="sip:[::1"), f"{PBX}.outbound_proxy", "brackets"),
    (with_connection(outbound_proxy="sip:proxy.example;transport=auto"), f"{PBX}.outbound_proxy", "udp|tcp|tls and lr"),
    (with_connection(outbound_proxy="sip:proxy.example\n"), f"{PBX}.outbound_proxy", "U+000A"),
    (with_connection(outbound_proxy="sip:edge.voice.example"), f"{PBX}.outbound_proxy", "is the edge itself"),
    (with_connection(sources=("192.0.2.5/24",)), f"{PBX}.sources[0]", "write the network as '192.0.2.0/24'"),
    (with_connection(sources=("10.0.0.1%",)), f"{PBX}.sources[0]", "is no source"),
    (with_connection(sources=("pbx.example",)), f"{PBX}.sources[0]", "is no source"),
    (with_connection(sources=("192.0.2.1:99999",)), f"{PBX}.sources[0]", "is no source"),
    (with_connection(sources=("0.0.0.0/0",)), f"{PBX}.sources[0]", "every address there is"),
    (with_connection(sources=("224.0.0.0/24",)), f"{PBX}.sources[0]", "multicast"),
    (with_connection(sources=("198.51.100.1",) * 2), f"{PBX}.sources[1]", "twice"),
    (
        with_connection(sources=tuple(f"198.51.100.{n}" for n in range(65))),
        f"{PBX}.sources",
        "65 sources; the limit is 64",
    ),
    (acme(connections=(connection(), connection(sources=("192.0.2.9",)))), f"{PBX}.id", "in connections twice"),
    # Further addresses of a PBX.
    (with_connection(media="rtpengine"), f"{PBX}.media", "choose one of direct, relay"),
    (with_alternates(("b_1", 0)), f"{PBX}.alternates[b_1].host", "is not a host"),
    (with_alternates(("b.example", 65536)), f"{SECOND}.port", "0 to 65535"),
    (with_connection(alternates=(Alternate(-1, "b.example", 0),)), f"{SECOND}.position", "0 to 1000000"),
    (with_alternates(("b.example", 0), ("b.example", 0)), f"{SECOND}.host", "is an address of this PBX already"),
    (with_alternates(("198.51.100.1", 0)), f"{PBX}.alternates[198.51.100.1].host", "already; remove one"),
    (with_alternates(("edge.voice.example", 0)), f"{PBX}.alternates[edge.voice.example].host", "is the edge itself"),
    (
        with_alternates(*((f"b{n}.example", 0) for n in range(9))),
        f"{PBX}.alternates",
        "9 further addresses; the limit is 8",
    ),
    # Guards.
    (with_guard(id="a b"), f"{GUARD}.id", "is no id"),
    (with_guard(prefix=""), "tenants[acme].guards[0].prefix", "This is empty"),
    (with_guard(prefix="0a"), "tenants[acme].guards[0a].prefix", "no start of a number"),
    (with_guard(prefix="0" * 33), f"tenants[acme].guards[{'0' * 33}].prefix", "up to 32 digits"),
    (with_guard(calls_per_hour=-1), f"{GUARD}.calls_per_hour", "in an hour, where 0 is none at all: 0 to 100000"),
    (with_guard(calls_per_hour=100_001), f"{GUARD}.calls_per_hour", "100001 is out of range"),
    (with_guard(schedule="gone"), f"{GUARD}.schedule", "'gone' is no schedule of this tenant"),
    (acme(guards=(guard(), guard(id="b"))), f"{GUARD}.prefix", "a guard for '00882' already"),
    (acme(guards=(guard(), guard("00881", id="acme-00882"))), "tenants[acme].guards[00881].id", "in guards twice"),
    (acme(guards=tuple(guard(f"0{n}") for n in range(101))), "tenants[acme].guards", "101 guards; the limit is 100"),
    # Numbers and rules.
    (with_number("030 1", user="acme-101"), "tenants[acme].numbers[0].number", "no number"),
    (with_number("+0301", user="acme-101"), "tenants[acme].numbers[+0301].number", "the first not 0"),
    (with_number("+" + "1" * 16, user="acme-101"), f"tenants[acme].numbers[+{'1' * 16}].number", "up to 15"),
    (with_number(), f"{NUMBER}.user", "neither a user nor a group nor a forward"),
    (with_number(user="acme-101", forward="102"), f"{NUMBER}.user", "both a user and a forward"),
    (with_number(user="globex-101"), f"{NUMBER}.user", "'globex-101' is no user of this tenant"),
    (with_number(forward="+4930123456"), f"{NUMBER}.forward", "circle without end"),
    (with_number("102", user="acme-101"), "tenants[acme].numbers[102].number", "which would get its calls"),
    (
        acme(numbers=(Number("n1", "+4930", user="acme-101"), Number("n2", "4930", user="acme-101"))),
        "tenants[acme].numbers[4930].number",
        "a leading + makes no difference",
    ),
    (with_rule(connection="globex-pbx"), f"{RULE}.connection", "'globex-pbx' is no connection of this tenant"),
    (with_rule(prefix="0a"), f"{RULE}.prefix", "no start of a number"),
    (with_rule(prepend="4+9"), f"{RULE}.prepend", "+ only in front"),
    (with_rule(strip=-1), f"{RULE}.strip", "0 to 64"),
    (with_rule(position=-1), f"{RULE}.position", "0 to 1000000"),
    (
        acme(numbers=(Number("acme-n", "+4930123456", "acme-101", "acme-600"),), groups=(group(),)),
        f"{NUMBER}.user",
        "both a user and a group",
    ),
    (
        acme(numbers=(Number("acme-n", "+4930123456", "acme-101", "acme-600", "102"),), groups=(group(),)),
        f"{NUMBER}.user",
        "a user, a group and a forward",
    ),
    (with_number(group="acme-600"), f"{NUMBER}.group", "'acme-600' is no group of this tenant"),
    (
        acme(groups=(group("4930123456"),)),
        f"{NUMBER}.number",
        "also the extension or an alias of the group '4930123456'",
    ),
    (with_number(user="acme-101", schedule="x"), f"{NUMBER}.schedule", "'x' is no schedule of this tenant"),
    (
        acme(
            numbers=(Number("n", "+4930", "acme-101", schedule="hours", forward_closed="+4930"),),
            schedules=(schedule(),),
        ),
        "tenants[acme].numbers[+4930].forward_closed",
        "Out of business hours calls are forwarded in a circle without end: '+4930', '+4930'",
    ),
    (with_rules(pattern("0X-")), f"{PATTERN}.pattern", "'-', which no pattern takes"),
    (with_rules(pattern("_0X")), f"{PATTERN}.pattern", "has a _; write the pattern without it"),
    (with_rules(pattern("0x")), f"{PATTERN}.pattern", "write X, in upper case"),
    (with_rules(pattern("0.1")), f"{PATTERN}.pattern", "has a . before its end"),
    (with_rules(pattern("0!.")), f"{PATTERN}.pattern", "has a ! before its end"),
    (with_rules(pattern("0+1")), f"{PATTERN}.pattern", "+ goes in front only"),
    (with_rules(pattern("[12")), f"{PATTERN}.pattern", "a [ without its ]"),
    (with_rules(pattern("[]")), f"{PATTERN}.pattern", "nothing inside"),
    (with_rules(pattern("[3-1]")), f"{PATTERN}.pattern", "the range '3-1'"),
    (with_rules(pattern("[a]")), f"{PATTERN}.pattern", "'a' inside [ ]"),
    (with_rules(pattern("(0+)+.")), f"{PATTERN}.pattern", "'(', which no pattern takes"),
    (with_rules(pattern("X" * 65)), f"{PATTERN}.pattern", "has 65 characters; the limit for a pattern is 64"),
    (with_rules(pattern("X\n")), f"{PATTERN}.pattern", "U+000A"),
    (with_rules(pattern("1.", fallback="gone")), f"{PATTERN}.fallback", "'gone' is no connection of this tenant"),
    (with_rules(pattern("1.", fallback="acme-pbx")), f"{PATTERN}.fallback", "is the connection of this rule itself"),
    # Ring groups.
    (with_group(extension="6 0"), "tenants[acme].groups[0].extension", "is no extension"),
    (with_group(id="a b"), f"{GROUP}.id", "is no id"),
    (with_group(name="a;b"), f"{GROUP}.name", "holds ;"),
    (with_group(strategy="random"), f"{GROUP}.strategy", "choose one of all, in_turn, round_robin"),
    (with_group(ring_seconds=601), f"{GROUP}.ring_seconds", "5 to 600"),
    (with_group(member_seconds=4), f"{GROUP}.member_seconds", "at each member: 5 to 600"),
    (with_group(extension="101"), "tenants[acme].groups[101].extension", "'101' is the extension of 'User 101'"),
    (with_group(aliases=("102",)), f"{GROUP}.aliases[0]", "'102' is the extension of 'User 102' already"),
    (with_group(aliases=("600",)), f"{GROUP}.aliases[0]", "is the extension of the group 'Sales' already"),
    (with_group(aliases=("a b",)), f"{GROUP}.aliases[0]", "no extension"),
    (with_group(members=(Member(1, "globex-101"),)), f"{GROUP}.members[globex-101].user", "is no user of this tenant"),
    (
        with_group(members=(Member(1, "acme-101"), Member(2, "acme-101"))),
        f"{GROUP}.members[acme-101].user",
        "'101' is in this group twice",
    ),
    (with_group(members=(Member(-1, "acme-101"),)), f"{GROUP}.members[acme-101].position", "0 to 1000000"),
    (
        acme(
            users=tuple(user(str(n)) for n in range(101, 202)),
            groups=(group(members=tuple(Member(n, f"acme-{n}") for n in range(101, 202))),),
        ),
        f"{GROUP}.members",
        "101 members; the limit is 100",
    ),
    (with_group(schedule="x"), f"{GROUP}.schedule", "'x' is no schedule of this tenant"),
    (with_group(forward_no_answer="00 49"), f"{GROUP}.forward_no_answer", "cannot be dialled"),
    (with_group(schedule="hours", forward_closed="#"), f"{GROUP}.forward_closed", "cannot be dialled"),
    (with_group(schedule="hours", forward_closed="600"), f"{GROUP}.forward_closed", "Out of business hours"),
    (acme(groups=(group(), group("601", id="acme-600"))), "tenants[acme].groups[601].id", "in groups twice"),
    (
        acme(users=(user("101", aliases=("600",)), user("102")), groups=(group(),)),
        f"{USER}.aliases[0]",
        "the extension of the group 'Sales'",
    ),
    # Schedules.
    (with_schedule(id="a b"), "tenants[acme].schedules[0].id", "is no id"),
    (with_schedule(name=""), f"{HOURS}.name", "empty"),
    (with_schedule(time_zone="Europe/Atlantis"), f"{HOURS}.time_zone", "'Europe/Atlantis' is no time zone"),
    (with_schedule(time_zone="../../etc/passwd"), f"{HOURS}.time_zone", "is no time zone"),
    (with_schedule(time_zone="Europe"), f"{HOURS}.time_zone", "is no time zone"),
    (with_openings((7, "08:00", "12:00")), f"{HOURS}.openings[0].day", "7 is no day of the week"),
    (with_openings((-1, "08:00", "12:00")), f"{HOURS}.openings[0].day", "-1 is no day"),
    (
        with_openings((0, "8:00", "12:00")),
        f"{HOURS}.openings[0].opens",
        "'8:00' is no time of day; write it like 08:30",
    ),
    (with_openings((0, "08:00", "25:00")), f"{HOURS}.openings[0].closes", "'25:00' is no time of day"),
    (with_openings((0, "08:00", "08:00")), f"{HOURS}.openings[0].closes", "is not later than '08:00'"),
    (with_openings((4, "22:00", "06:00")), f"{HOURS}.openings[0].closes", "past midnight take two openings"),
    (with_openings((0, "24:00", "24:00")), f"{HOURS}.openings[0].closes", "is not later"),
    (
        with_openings(
            *((n % 7, f"{n // 7:02}:{m:02}", f"{n // 7:02}:{m + 1:02}") for n in range(34) for m in (0, 2, 4))
        ),
        f"{HOURS}.openings",
        "102 openings; the limit is 100",
    ),
    (with_schedule(holidays=("2026-02-30",)), f"{HOURS}.holidays[0]", "no date of the calendar"),
    (with_schedule(holidays=("24.12.2026",)), f"{HOURS}.holidays[0]", "write it like 2026-12-25"),
    (with_schedule(holidays=("20261225",)), f"{HOURS}.holidays[0]", "no date"),
    (with_schedule(holidays=("2026-12-25", "2026-12-25")), f"{HOURS}.holidays[1]", "twice"),
    (
        with_schedule(holidays=tuple(f"{2026 + n // 28}-02-{n % 28 + 1:02}" for n in range(401))),
        f"{HOURS}.holidays",
        "401 holidays; the limit is 400",
    ),
    (acme(schedules=(schedule(), schedule())), f"{HOURS}.id", "in schedules twice"),
    # What the table says of features.
    (with_user(schedule="x"), f"{USER}.schedule", "'x' is no schedule of this tenant"),
    (with_user(fork="all"), f"{USER}.fork", "choose one of parallel, serial"),
    (with_user(serial_seconds=4), f"{USER}.serial_seconds", "at each phone: 5 to 600"),
    (with_user(caller_id="+49 30"), f"{USER}.caller_id", "'+49 30' is no caller id"),
    (acme(caller_id="anonymous@x"), "tenants[acme].caller_id", "is no caller id"),
    (with_connection(caller_id="pai"), f"{PBX}.caller_id", "choose one of account, from, asserted, both"),
    (with_connection(tls_client="pbx.example"), f"{PBX}.tls_client", "but the transport is udp"),
    (with_connection(tls_client="pbx.example", transport="tcp"), f"{PBX}.tls_client", "but the transport is tcp"),
    (with_connection(tls_client="*.example", transport="tls"), f"{PBX}.tls_client", "is not a DNS name"),
    (with_connection(tls_client="PBX.example", transport="tls"), f"{PBX}.tls_client", "in lower case: 'pbx.example'"),
    (with_connection(tls_client="192.0.2.1", transport="tls"), f"{PBX}.tls_client", "is an IP address"),
    # The installation.
    (check_installation(Installation("127.0.0.1")), "installation.platform_domain", "is an IP address"),
    (check_installation(Installation("v.example", ("a b",))), "installation.edge_hosts[0]", "is not a host"),
    (check_installation(replace(INSTALLATION, limits=Limits(0))), "installation.limits.calls", "out of range"),
    (protected(guards=(guard(schedule="hours"),)), "installation.guards[00882].schedule", "a guard for all tenants"),
    (protected(guards=(guard(prefix="x"),)), "installation.guards[x].prefix", "no start of a number"),
    (protected(guards=(guard(calls_per_hour=-1),)), "installation.guards[00882].calls_per_hour", "out of range"),
    (protected(guards=(guard(), guard(id="b"))), "installation.guards[00882].prefix", "already"),
    (protected(guards=tuple(guard(f"0{n}") for n in range(101))), "installation.guards", "the limit is 100"),
    (protected(allowed=("10.0.0.1%",)), "installation.allowed[0]", "is no network"),
    (protected(allowed=("fe80::1%eth0",)), "installation.allowed[0]", "has a zone"),
    (protected(blocked=("pbx.example",)), "installation.blocked[0]", "is no network"),
    (protected(blocked=("192.0.2.1/24",)), "installation.blocked[0]", "write the network as '192.0.2.0/24'"),
    (protected(blocked=("192.0.2.0/255.255.255.0",)), "installation.blocked[0]", "write it as '192.0.2.0/24'"),
    (protected(blocked=("192.0.2.1/32",)), "installation.blocked[0]", "write it as '192.0.2.1'"),
    (protected(blocked=("2001:DB8::/32",)), "installation.blocked[0]", "write it as '2001:db8::/32'"),
    (protected(blocked=("::ffff:192.0.2.1",)), "installation.blocked[0]", "write it as '192.0.2.1'"),
    (protected(blocked=("0.0.0.0/0",)), "installation.blocked[0]", "every address there is"),
    (protected(allowed=("::/0",)), "installation.allowed[0]", "every address there is"),
    (protected(blocked=("192.0.2.1", "192.0.2.1")), "installation.blocked[1]", "twice"),
    (protected(allowed=("192.0.2.1",), blocked=("192.0.2.1",)), "installation.blocked[0]", "is also allowed"),
    (
        protected(allowed=tuple(f"10.0.{n // 250}.{n % 250 + 1}" for n in range(1001))),
        "installation.allowed",
        "1001 networks; the limit is 1000",
    ),
]

WARNINGS = [
    (with_user(ha1_md5="", ha1_sha256=""), USER, "no password"),
    (with_user(upstream=()), f"{USER}.upstream", "no account at any PBX"),
    (with_account(username="102"), "tenants[acme].users[102].upstream[acme-pbx].username", "the account of '101'"),
    (with_connection(sources=()), f"{PBX}.sources", "no call from this PBX will be accepted"),
    (with_connection(sources=("198.0.0.0/8",)), f"{PBX}.sources[0]", "a very wide network"),
    (with_connection(sources=("198.51.100.1:5060",), transport="tcp"), f"{PBX}.sources[0]", "from changing ports"),
    (with_connection(host="192.0.2.250", port=5080), f"{PBX}.host", "listens on port 5080"),
    (with_connection(host="acme.example"), f"{PBX}.host", "which must lead to the edge"),
    (
        acme(connections=(connection(), connection(id="b", strategy="none", sources=("198.51.100.0/24",)))),
        "tenants[acme].connections[b].sources[0]",
        "also a source of the connection 'PBX'",
    ),
    (
        acme(connections=(connection(), connection(id="b", enabled=False)), default_connection="b"),
        "tenants[acme].default_connection",
        "disabled",
    ),
    (
        acme(
            connections=(connection(), connection(id="b", enabled=False)),
            outbound=(OutboundRule("r", 1, "", 0, "", "b"),),
        ),
        "tenants[acme].outbound[r].connection",
        "is passed over",
    ),
    (
        acme(outbound=(*ACME.outbound, OutboundRule("r2", 2, "0049", 4, "", "acme-pbx"))),
        "tenants[acme].outbound[r2].prefix",
        "is never used: the one at position 1 for '00'",
    ),
    (
        acme(users=(user("101", enabled=False), user("102"))),
        f"{NUMBER}.user",
        "'+4930123456' rings '101', who is disabled",
    ),
    (
        acme(users=(user("101", forward_busy="103"), user("102")), default_connection=""),
        f"{USER}.forward_busy",
        "no outbound rule takes it",
    ),
    (
        acme(users=(user("101", forward_busy="103"), user("102"), user("103", enabled=False))),
        f"{USER}.forward_busy",
        "'103', who is disabled",
    ),
    (with_group(members=()), f"{GROUP}.members", "nobody rings"),
    (
        acme(users=(user("101"), user("102", enabled=False)), groups=(group(),)),
        f"{GROUP}.members[acme-102].user",
        "'102' is disabled and does not ring",
    ),
    (
        with_group(strategy="in_turn", member_seconds=20, ring_seconds=15),
        f"{GROUP}.member_seconds",
        "only the first one",
    ),
    (with_group(forward_closed="101"), f"{GROUP}.forward_closed", "there is no schedule here"),
    (with_group(forward_no_answer="600"), f"{GROUP}.forward_no_answer", "go in a circle: '600', '600'"),
    (
        acme(groups=(group(enabled=False),), users=(user("101", forward_busy="600"), user("102"))),
        f"{USER}.forward_busy",
        "'600', a group that is disabled",
    ),
    (
        acme(groups=(group(enabled=False),), numbers=(Number("acme-n", "+4930123456", group="acme-600"),)),
        f"{NUMBER}.group",
        "rings the group '600', which is disabled",
    ),
    (with_number(user="acme-101", forward_closed="102"), f"{NUMBER}.forward_closed", "there is no schedule here"),
    (with_user(forward_closed="102"), f"{USER}.forward_closed", "there is no schedule here"),
    (with_schedule(openings=()), f"{HOURS}.openings", "closed always"),
    (
        with_openings((0, "08:00", "12:00"), (0, "11:59", "17:00"), (1, "08:00", "12:00")),
        f"{HOURS}.openings[1].opens",
        "overlaps the one on Monday from 08:00 to 12:00",
    ),
    (with_user(fork="serial", serial_seconds=61), f"{USER}.serial_seconds", "only the first phone rings"),
    (with_user(caller_id="+4930"), f"{USER}.caller_id", "'+4930' is never shown"),
    (acme(caller_id="+4930"), "tenants[acme].caller_id", "is never shown"),
    (with_connection(strategy="none", caller_id="both"), f"{PBX}.caller_id", "'101' has no number"),
    (with_connection(transport="tls", tls_verify=False), f"{PBX}.tls_verify", "can pose as the PBX"),
    (with_connection(transport="auto", host="p.example", tls_client="p.example"), f"{PBX}.tls_client", "is refused"),
    (with_connection(transport="auto"), f"{PBX}.transport", "'198.51.100.1' is an address"),
    (with_connection(transport="auto", host="p.example", port=5070), f"{PBX}.transport", "With the port 5070"),
    (with_alternates(("198.51.100.9", 0)), f"{PBX}.alternates[198.51.100.9].host", "is none of the sources"),
    (
        with_alternates(("192.0.2.250", 5080), sources=("198.51.100.1", "192.0.2.250")),
        f"{PBX}.alternates[192.0.2.250].host",
        "listens on port 5080",
    ),
    (
        with_alternates(("b.example", 0), outbound_proxy="sip:proxy.example"),
        f"{PBX}.alternates",
        "everything goes to the outbound proxy",
    ),
    (relaying(relayed("101", password=SEALED), relayed("102")), f"{ACCOUNT}.password", "is not used"),
    (
        relaying(user("101", upstream=(UpstreamAccount("acme-pbx", "", "", ""),)), relayed("102")),
        f"{ACCOUNT}.username",
        "no phone of this user can register",
    ),
    (
        relaying(connections=(connection(strategy="relay", internal_calls="always_direct"),)),
        f"{PBX}.internal_calls",
        "always go through the PBX",
    ),
    (
        relaying(relayed("101", forward_busy="0049301"), relayed("102")),
        f"{USER}.forward_busy",
        "the password that only a user's own phone has",
    ),
    (
        relaying(groups=(group(forward_no_answer="0049301"),)),
        f"{GROUP}.forward_no_answer",
        "the password that only a user's own phone has",
    ),
    (relaying(numbers=(Number("acme-n", "+4930123456", forward="0049"),)), f"{NUMBER}.forward", "or let the PBX"),
    (with_guard(calls_per_hour=0, schedule="hours"), f"{GUARD}.schedule", "the schedule makes no difference"),
    (
        in_blocked(ACME, "198.51.100.0/24", "203.0.113.9"),
        f"{PBX}.sources[0]",
        "'198.51.100.1' is where the provider blocks '198.51.100.0/24'",
    ),
    (
        in_blocked(replace(ACME, connections=(connection(source="198.51.100.0/24"),)), "198.51.100.7"),
        f"{PBX}.sources[0]",
        "blocks '198.51.100.7'",
    ),
    (
        in_blocked(ACME, "198.51.100.0/28", allowed=("198.51.100.0/24", "198.51.100.2")),
        f"{PBX}.sources[0]",
        "blocks '198.51.100.0/28'",
    ),
    (with_rules(pattern("1.", fallback="off")), f"{PATTERN}.fallback", "is disabled, so that there is none"),
    (
        with_rules(pattern("1.", connection="off", fallback="spare")),
        f"{PATTERN}.connection",
        "its calls go to the fall-back",
    ),
    (with_rules(pattern("0X.", prefix="0")), f"{PATTERN}.pattern", "takes only numbers that fit both"),
    (with_rules(pattern("0X.", prefix="01")), f"{PATTERN}.pattern", "takes only numbers that fit both"),
    (with_rules(pattern("0X.", prefix="9")), f"{PATTERN}.pattern", "no number begins with '9'"),
    (with_rules(pattern("0X", prefix="012")), f"{PATTERN}.pattern", "no number begins with '012'"),
    (with_rules(pattern("0X."), pattern("0N1", 2, id="q")), "tenants[acme].outbound[q].pattern", "'0N1' is never used"),
    (
        with_rules(pattern("", prefix="0"), pattern("0N1", 2, id="q")),
        "tenants[acme].outbound[q].pattern",
        "for '0' takes",
    ),
    (
        with_rules(pattern("0!"), pattern("", 2, id="q", prefix="01")),
        "tenants[acme].outbound[q].prefix",
        "for '0!' takes",
    ),
    (
        acme(users=(user("101", forward_no_answer="102"), user("102", forward_busy="101"))),
        "tenants[acme].users[102].forward_busy",
        "go in a circle: '101', '102', '101'",
    ),
]


@pytest.mark.parametrize(("problems", "path", "message"), ERRORS, ids=[f"{p}: {m}" for _, p, m in ERRORS])
def test_each_error_is_found_and_named(problems: list[Problem], path: str, message: str) -> None:
    assert summary(problems) == [("error", path)]
    assert message in problems[0].message


@pytest.mark.parametrize(("problems", "path", "message"), WARNINGS, ids=[f"{p}: {m}" for _, p, m in WARNINGS])
def test_each_warning_is_found_and_named(problems: list[Problem], path: str, message: str) -> None:
    assert summary(problems) == [("warning", path)]
    assert message in problems[0].message


def test_the_cast_has_no_problem() -> None:
    assert validate(TABLE) == []


@pytest.mark.parametrize(
    "fine",
    [
        with_user(name="Pat O'Neill"),
        with_user(name=""),
        with_connection(multi_tenant=False, host="acme.example"),
        with_connection(host="localhost", port=5080, sources=("[2001:db8::1]:5060", "192.0.2.1:5062")),
        with_connection(outbound_proxy="sip:[2001:db8::1]:5060;transport=tcp;lr"),
        with_account(username="101", auth_username="acme/101@pbx.example"),
        with_number("102", user="acme-102"),
        with_number(forward="101"),
        with_rule(prefix="", prepend="+*4"),
        with_rule(prefix="", pattern="[05]NX."),
        with_rules(pattern("0X.", fallback="spare"), pattern("0!", 2, id="q")),
        with_user(do_not_disturb=True, forward_busy="102", fork="serial", hide_caller_id=True),
        with_connection(transport="auto", host="pbx.example", outbound_proxy="sip:proxy.example;transport=tls"),
        with_connection(transport="tls", tls_client="pbx.example", sources=("198.51.100.1",)),
        with_connection(tls_verify=False),
        with_group(aliases=("sales",), strategy="round_robin", schedule="hours", forward_closed="101"),
        acme(caller_id="+4930", connections=(connection(caller_id="both"),)),
        acme(groups=(group(),), numbers=(Number("n", "600", group="acme-600"),)),
        with_openings((0, "00:00", "12:00"), (0, "12:00", "24:00"), (1, "00:00", "24:00")),
        with_alternates(("b.example", 0), ("b.example", 5080), ("198.51.100.1", 5080), media="relay"),
        with_alternates(("192.0.2.7", 0), sources=("198.51.100.1", "192.0.2.0/24")),
        relaying(),
        relaying(relayed("101", ha1_md5=SEALED), relayed("102", enabled=False, password=SEALED), numbers=()),
        relaying(
            connections=(connection(strategy="relay"), connection(id="b", strategy="none", sources=("192.0.2.8",))),
            users=(relayed("101", forward_busy="0049"), relayed("102")),
            outbound=(OutboundRule("r", 1, "00", 0, "", "acme-pbx", fallback="b"),),
        ),
        with_guard(schedule="hours"),
        acme(guards=(guard("+882"), guard("00882"), guard("*9", calls_per_hour=0))),
        protected(guards=(guard(),), allowed=("192.0.2.1", "10.0.0.0/8"), blocked=("192.0.2.0/24", "2001:db8::/32")),
        in_blocked(ACME, "198.51.101.0/24", "2001:db8::/32"),
        in_blocked(ACME, "198.51.100.0/24", allowed=("198.51.100.0/28",)),
        in_blocked(
            replace(ACME, connections=(connection(enabled=False),), outbound=(), default_connection=""), "198.51.100.1"
        ),
    ],
)
def test_what_is_allowed_draws_no_error(fine: list[Problem]) -> None:
    assert fine == []


def test_a_disabled_user_or_connection_needs_no_credentials() -> None:
    bare = UpstreamAccount("acme-pbx", "", "", "")
    off = acme(users=(user("101", enabled=False, upstream=(bare,)), user("102")), numbers=())
    assert off == []
    paused = acme(
        users=(user("101", upstream=(bare,)),),
        connections=(connection(enabled=False),),
        outbound=(),
        default_connection="",
    )
    assert paused == []


def test_a_secret_is_in_no_message() -> None:
    [problem] = with_account(password="hunter2")
    assert "hunter2" not in problem.message
    assert problem.where == ("acme-id", "users", "acme-101", "upstream.password")


# Across tenants -----------------------------------------------------------------------------------


def across(*tenants: Tenant) -> list[Problem]:
    return [problem for problem in validate(Table(INSTALLATION, tenants)) if problem.is_error]


def test_a_domain_belongs_to_one_tenant() -> None:
    problems = across(ACME, replace(GLOBEX, alias_domains=("acme.example",)))
    assert summary(problems) == [
        ("error", "tenants[acme].primary_domain"),
        ("error", "tenants[globex].alias_domains[0]"),
    ]
    assert [problem.others for problem in problems] == [("globex-id",), ("acme-id",)]
    assert "globex" not in problems[0].message


def test_slugs_and_ids_are_unique() -> None:
    assert summary(across(ACME, replace(GLOBEX, slug="acme"))) == [("error", "tenants[acme].slug")] * 2
    assert ("error", "tenants[globex].id") in summary(across(ACME, replace(GLOBEX, id="acme-id")))


def off(slug: str, *sources: str, **changes: object) -> Tenant:
    return tenant(slug, connections=(connection(slug, multi_tenant=False, sources=sources, **changes),))


@pytest.mark.parametrize(
    ("one", "other", "ambiguous"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.0/24", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.0/24", True),
        ("192.0.2.1:5060", "192.0.2.1", True),
        ("192.0.2.1:5060", "192.0.2.0/24", True),
        ("192.0.2.1:5060", "192.0.2.1:5060", True),
        ("192.0.2.1:5060", "192.0.2.1:5080", False),
        ("10.0.0.1", "10.0.0.10", False),
        ("192.0.2.0/25", "192.0.2.128/25", False),
        ("2001:db8::/32", "[2001:db8::1]:5060", True),
        ("2001:db8::1", "192.0.2.1", False),
    ],
)
def test_a_source_without_the_mode_serves_one_tenant(one: str, other: str, ambiguous: bool) -> None:
    problems = across(off("acme", one), off("globex", other))
    expected = [f"tenants[{slug}].connections[{slug}-pbx].sources[0]" for slug in ("acme", "globex")]
    assert [problem.path for problem in problems] == (expected if ambiguous else [])


def test_a_source_may_be_shared_with_the_mode_on_or_the_connection_disabled() -> None:
    shared = "192.0.2.1"
    assert across(off("acme", shared), tenant("globex", connections=(connection("globex", shared),))) == []
    assert across(off("acme", shared), off("globex", shared, enabled=False)) == []


@pytest.mark.parametrize(
    ("one", "other", "ambiguous"),
    [("a.example", "b.example", False), ("a.example", "a.example", True), ("a.example", "", True)],
)
def test_client_certificates_tell_tenants_apart(one: str, other: str, ambiguous: bool) -> None:
    named = [("acme", one), ("globex", other)]
    tenants = [off(slug, "192.0.2.1", transport="tls", tls_client=client) for slug, client in named]
    assert len(across(*tenants)) == (2 if ambiguous else 0)


def test_transports_do_not_tell_tenants_apart() -> None:
    """A connection over UDP is also believed over TCP, so a request over TCP could be either's."""
    assert len(across(off("acme", "192.0.2.1", transport="tcp"), off("globex", "192.0.2.1"))) == 2


@given(strategies.tables())
def test_no_source_is_ambiguous_in_a_table_without_errors(table: Table) -> None:
    compiled = compile_table(table)
    for each in table.tenants:
        for link in each.connections:
            for source in link.sources:
                address = source.partition("/")[0].partition(":")[0]
                assert explain(compiled, address, 5080, "tcp", "sip:101@edge.example").rule != "ambiguous"


def test_one_changed_tenant_is_checked_alone() -> None:
    index = Index(contribution(each) for each in TABLE.tenants)
    assert check_across(index) == []
    index.put(contribution(replace(GLOBEX, alias_domains=("acme.example",))))
    assert summary(check_across(index, ["globex-id"])) == [("error", "tenants[globex].alias_domains[0]")]
    index.put(contribution(GLOBEX))
    assert check_across(index) == []


def test_an_index_forgets_what_is_removed() -> None:
    index = Index([contribution(off("acme", "192.0.2.1", "192.0.2.0/24"))])
    index.put(contribution(off("globex", "192.0.2.1")))
    assert len(check_across(index)) == 3
    index.remove("acme-id")
    index.remove("acme-id")
    assert check_across(index) == []
    assert "acme-id" not in index


def test_others_are_bounded() -> None:
    crowd = [replace(tenant(f"t{n}"), primary_domain="same.example") for n in range(50)]
    problems = check_across(Index(contribution(each, place) for place, each in enumerate(crowd)))
    assert {len(problem.others) for problem in problems} == {10}


# Every table --------------------------------------------------------------------------------------


@given(strategies.tables())
def test_tables_of_the_strategy_have_no_error(table: Table) -> None:
    assert [problem for problem in validate(table) if problem.is_error] == []


@given(strategies.ANY_JSON)
def test_no_json_makes_the_validator_raise(value: object) -> None:
    for doc in (value, {"format": 1, "installation": {"platform_domain": ""}, "tenants": [value]}):
        table, _ = codec.from_document(doc)
        if table is not None:
            validate(table)


def texts(value: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where all texts of a document are."""
    if isinstance(value, str):
        yield trail
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts(item, (*trail, key))


def full_table() -> dict[str, Any]:
    """A document in which every list has something in it and every text can be reached."""
    whole = replace(
        ACME,
        alias_domains=("alias.example",),
        users=(user("101", aliases=("a",)), user("102")),
        connections=(connection(outbound_proxy="sip:proxy.example", alternates=(Alternate(1, "b.example", 0),)),),
        guards=(guard(schedule="hours"),),
        groups=(group(aliases=("b",)),),
        schedules=(schedule(),),
    )
    protection = replace(INSTALLATION, guards=(guard(),), allowed=("192.0.2.1",), blocked=("203.0.113.0/24",))
    doc: dict[str, Any] = json.loads(codec.canonical(codec.to_document(Table(protection, (whole,)))))
    return doc


def test_the_full_table_is_full() -> None:
    """So that a new field of the model does not escape the tests below."""
    trails = {trail[-1] if isinstance(trail[-1], str) else trail[-2] for trail in texts(full_table())}
    kinds = [kind for kind in vars(model).values() if is_dataclass(kind) and kind is not Table]
    names = {f.name for kind in kinds for f in fields(kind) if f.type in ("str", "tuple[str, ...]")}
    assert names <= trails


@pytest.mark.parametrize("trail", list(texts(full_table())), ids=str)
@pytest.mark.parametrize("bad", ['\n#!define X "y"', "\x00", "\x7f", "\u2028", '"', "#", ";", "x" * 1000])
def test_what_must_not_be_rendered_is_found_in_every_text(trail: tuple[Any, ...], bad: str) -> None:
    doc = full_table()
    place: Any = doc
    for key in trail[:-1]:
        place = place[key]
    place[trail[-1]] = str(place[trail[-1]]) + bad
    table, problems = codec.from_document(doc)
    assert table is not None
    problems = validate(table)
    assert any(problem.is_error for problem in problems)
    for problem in problems:
        assert problem.message.isprintable()
        assert len(problem.message) < 400


@pytest.mark.parametrize(
    "bad", ["", " ", "\t", "a" * 100_000, "%s", "{}", "::", "[", "sip:", "é", "１０１", "1/1/1", "-"]
)
def test_no_text_makes_the_validator_raise(bad: str) -> None:
    for trail in texts(full_table()):
        doc = full_table()
        place: Any = doc
        for key in trail[:-1]:
            place = place[key]
        place[trail[-1]] = bad
        table, _ = codec.from_document(doc)
        assert table is not None
        validate(table)


@pytest.mark.parametrize(
    ("forward", "strategy", "warned"),
    [
        ("+49301", "on_behalf", True),
        ("0049301", "on_behalf", True),
        ("+49301", "none", False),
        ("+49301", "relay", False),
        ("101", "on_behalf", False),
    ],
)
def test_a_number_has_no_account_to_be_forwarded_out_with(forward: str, strategy: str, warned: bool) -> None:
    number = Number("n", "+4930", forward=forward)
    made = tenant(numbers=(number,), connections=(connection(strategy=strategy),))
    paths = [
        problem.path for problem in validate(Table(INSTALLATION, (made,))) if "wants the account" in problem.message
    ]
    assert paths == (["tenants[acme].numbers[+4930].forward"] if warned else [])
