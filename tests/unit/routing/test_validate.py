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
from sipd.routing.model import Installation, Limits, Number, OutboundRule, Table, Tenant, UpstreamAccount
from sipd.routing.problem import Problem
from sipd.routing.validate import Index, check_across, check_installation, check_tenant, contribution, validate
from tests import strategies
from tests.unit.routing.cast import ACME, GLOBEX, INSTALLATION, SEALED, TABLE, connection, tenant, user


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


def summary(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.severity, problem.path) for problem in problems]


USER = "tenants[acme].users[101]"
PBX = "tenants[acme].connections[acme-pbx]"
ACCOUNT = f"{USER}.upstream[acme-pbx]"
NUMBER = "tenants[acme].numbers[+4930123456]"
RULE = "tenants[acme].outbound[acme-r]"

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
    (with_connection(strategy="relay"), f"{PBX}.strategy", "choose one of on_behalf, none"),
    (with_connection(internal_calls=""), f"{PBX}.internal_calls", "choose one of"),
    (with_connection(expires=59), f"{PBX}.expires", "60 to 86400"),
    (with_connection(limits=Limits(calls=100_001)), f"{PBX}.limits.calls", "1 to 100000"),
    (with_connection(outbound_proxy="proxy.example"), f"{PBX}.outbound_proxy", "does not begin with sip:"),
    (with_connection(outbound_proxy="sips:proxy.example"), f"{PBX}.outbound_proxy", "does not begin with sip:"),
    (with_connection(outbound_proxy="sip:a@proxy.example"), f"{PBX}.outbound_proxy", "has a user"),
    (with_connection(outbound_proxy="sip:proxy.example?a=b"), f"{PBX}.outbound_proxy", "headers"),
    (with_connection(outbound_proxy="sip:proxy.example:0"), f"{PBX}.outbound_proxy", "the port '0'"),
    (with_connection(outbound_proxy="sip:[::1"), f"{PBX}.outbound_proxy", "brackets"),
    (with_connection(outbound_proxy="sip:proxy.example;transport=tls"), f"{PBX}.outbound_proxy", "transport=udp|tcp"),
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
    # Numbers and rules.
    (with_number("030 1", user="acme-101"), "tenants[acme].numbers[0].number", "no number"),
    (with_number("+0301", user="acme-101"), "tenants[acme].numbers[+0301].number", "the first not 0"),
    (with_number("+" + "1" * 16, user="acme-101"), f"tenants[acme].numbers[+{'1' * 16}].number", "up to 15"),
    (with_number(), f"{NUMBER}.user", "neither a user nor a forward"),
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
    # The installation.
    (check_installation(Installation("127.0.0.1")), "installation.platform_domain", "is an IP address"),
    (check_installation(Installation("v.example", ("a b",))), "installation.edge_hosts[0]", "is not a host"),
    (check_installation(replace(INSTALLATION, limits=Limits(0))), "installation.limits.calls", "out of range"),
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
        users=(user("101", aliases=("a",)),),
        connections=(connection(outbound_proxy="sip:proxy.example"),),
    )
    doc: dict[str, Any] = json.loads(codec.canonical(codec.to_document(Table(INSTALLATION, (whole,)))))
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
