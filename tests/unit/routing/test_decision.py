"""Who gets a call: groups, business hours, outbound rules; and which connection a source is believed to be."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from sipd.routing.decision import decide_dialled, decide_from_pbx, decide_outbound, explain, outbound_routes
from sipd.routing.lookup import TenantIndex, compile_table
from sipd.routing.model import Member, Number, OutboundRule, Table, Tenant
from tests.unit.routing.cast import ACME, INSTALLATION, connection, group, schedule, tenant, user

OPEN = datetime(2026, 11, 23, 9, 0, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
CLOSED = OPEN + 24 * 3600


def index(**changes: object) -> TenantIndex:
    return TenantIndex(replace(ACME, **{"groups": (group(),), "schedules": (schedule(),), **changes}))  # type: ignore[arg-type]


def number(**changes: object) -> Number:
    return replace(Number("n", "+4930", "acme-101"), **changes)  # type: ignore[arg-type]


def where(tenant_index: TenantIndex, dialled: str, at: float | None = OPEN) -> str:
    """The decision as one line."""
    found = decide_dialled(tenant_index, dialled, at)
    to = found.user.extension if found.user else found.group.extension if found.group else found.forward
    if found.connection is not None:
        to = f"{found.number}@{found.connection.id}"
    return f"{found.rule} {to or found.status}"


# Stations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialled", "expected"),
    [
        ("101", "user 101"),
        ("600", "group 600"),
        ("sales", "group 600"),
        ("+4930123456", "number 101"),
        ("4931", "number 600"),
        ("+4932", "number 102"),
        ("0049", "outbound +49@acme-pbx"),
        ("999", "default-connection 999@acme-pbx"),
        ("", "no-number 404"),
    ],
)
def test_what_a_user_dials(dialled: str, expected: str) -> None:
    numbers = (*ACME.numbers, Number("g", "+4931", group="acme-600"), Number("f", "4932", forward="102"))
    assert where(index(groups=(group(aliases=("sales",)),), numbers=numbers), dialled) == expected


def test_a_disabled_group_is_not_there() -> None:
    numbers = (number(user="", group="acme-600"),)
    closed = index(groups=(group(enabled=False),), numbers=numbers, default_connection="")
    assert where(closed, "600") == "no-route 404"
    assert where(closed, "+4930") == "no-route 404"


def test_members_are_in_their_turn_and_in_use() -> None:
    members = (Member(3, "acme-101"), Member(1, "acme-102"), Member(2, "acme-103"), Member(0, "gone"))
    people = (*ACME.users, user("103", enabled=False))
    found = index(users=people, groups=(group(members=members),))
    assert [each.extension for each in found.members["acme-600"]] == ["102", "101"]


# Business hours -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "closed"),
    [
        ({"schedule": "hours", "forward_closed": "102"}, "closed 102"),
        ({"schedule": "hours"}, "closed 480"),
        ({"forward_closed": "102"}, "number 101"),
    ],
)
def test_a_number_is_closed(changes: dict[str, str], closed: str) -> None:
    found = index(numbers=(number(**changes),))
    assert where(found, "+4930", OPEN) == "number 101"
    assert where(found, "+4930", CLOSED) == closed
    assert where(found, "+4930", None) == "number 101"


def test_a_users_schedule_holds_however_the_user_is_reached() -> None:
    people = (user("101", schedule="hours", forward_closed="102"), user("102"))
    found = index(users=people, numbers=(number(),))
    assert [where(found, dialled, CLOSED) for dialled in ("101", "+4930")] == ["closed 102"] * 2
    assert [where(found, dialled, OPEN) for dialled in ("101", "+4930")] == ["user 101", "number 101"]
    assert decide_dialled(found, "+4930", CLOSED).diverted_by is people[0]


def test_a_groups_schedule_holds_and_its_members_do_not_count() -> None:
    people = (user("101", schedule="hours"), user("102"))
    found = index(users=people, groups=(group(),))
    assert where(found, "600", CLOSED) == "group 600"
    found = index(groups=(group(schedule="hours", forward_closed="101"),), numbers=(number(user="", group="acme-600"),))
    assert [where(found, dialled, CLOSED) for dialled in ("600", "+4930")] == ["closed 101"] * 2


def test_the_number_is_closed_before_the_user() -> None:
    people = (user("101", schedule="hours", forward_closed="1"), user("102"))
    found = index(users=people, numbers=(number(schedule="hours", forward_closed="2"),))
    assert where(found, "+4930", CLOSED) == "closed 2"


# From a PBX ---------------------------------------------------------------------------------------


def from_pbx(changed: Tenant, uri_user: str, at: float = OPEN) -> str:
    compiled = compile_table(Table(INSTALLATION, (changed,)))
    found = decide_from_pbx(compiled, "198.51.100.1", 5060, "udp", uri_user, "acme.example", "", at)
    to = found.user.extension if found.user else found.group.extension if found.group else found.forward
    return f"{found.rule} {to or found.status} {found.reason}".strip()


def test_calls_from_a_pbx() -> None:
    numbers = (number(schedule="hours", forward_closed="102"),)
    people = (user("101"), user("102", schedule="hours"))
    acme = tenant(users=people, groups=(group(),), schedules=(schedule(),), numbers=numbers)
    assert from_pbx(acme, "600") == "group 600"
    assert from_pbx(acme, "4930") == "number 101"
    assert from_pbx(acme, "4930", CLOSED) == "closed 102"
    assert from_pbx(acme, "102", CLOSED) == "closed 480 Temporarily Unavailable"
    assert from_pbx(acme, "999") == "unknown-user 404 Not Found"


def told(changed: Tenant, uri: str, at: float | None) -> list[str]:
    compiled = compile_table(Table(INSTALLATION, (changed,)))
    steps = explain(compiled, "198.51.100.1", 5060, "udp", uri, at).steps
    return [f"{'yes' if step.passed else 'no'} {step.rule}: {step.sentence}" for step in steps[2:]]


def test_each_step_is_told_in_words() -> None:
    number_600 = number(user="", group="acme-600", schedule="hours", forward_closed="102")
    acme = tenant(groups=(group(),), schedules=(schedule(),), numbers=(number_600,))
    assert told(acme, "sip:+4930@acme.example", OPEN) == [
        "yes schedule: schedule 'Office hours' of +4930 is open: it is Monday 2026-11-23 09:00 in Europe/Berlin",
        "yes number: '+4930' leads to group 600, members in use: 2",
    ]
    assert told(acme, "sip:+4930@acme.example", CLOSED) == [
        "no schedule: schedule 'Office hours' of +4930 is closed: it is Tuesday 2026-11-24 09:00 in Europe/Berlin",
        "yes closed: calls go to 102",
    ]
    assert told(acme, "sip:+4930@acme.example", OPEN + 28 * 24 * 3600)[0].endswith(
        "Monday 2026-12-21 09:00 in Europe/Berlin, a holiday"
    )
    assert told(acme, "sip:9@acme.example", OPEN) == ["no user: '9' is no user, group or number of acme"]


# Outbound rules -----------------------------------------------------------------------------------


def routes(dialled: str, *rules: OutboundRule, default: str = "") -> list[str]:
    links = (connection(), connection(id="spare"), connection(id="off", enabled=False))
    found = index(connections=links, outbound=rules, default_connection=default)
    way = outbound_routes(found, dialled)
    first = decide_outbound(found, dialled)
    assert (first.connection, first.number) == (way[0] if way else (None, ""))
    assert first.fallback == (way[1][0] if len(way) > 1 else None)
    return [f"{number}@{link.id}" for link, number in way]


def rule(position: int = 1, **changes: object) -> OutboundRule:
    return replace(OutboundRule(f"r{position}", position, "", 0, "", "acme-pbx"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((rule(prefix="00", strip=2, prepend="+"),), ["+4930@acme-pbx"]),
        ((rule(pattern="00ZX."),), ["004930@acme-pbx"]),
        ((rule(pattern="00ZX", fallback="spare"), rule(2, connection="spare")), ["004930@spare"]),
        ((rule(strip=2, fallback="spare"),), ["4930@acme-pbx", "4930@spare"]),
        ((rule(fallback="off"),), ["004930@acme-pbx"]),
        ((rule(connection="off", fallback="spare"),), ["004930@spare"]),
        ((rule(connection="off"), rule(2, prepend="9")), ["9004930@acme-pbx"]),
        ((rule(connection="off", fallback="off"),), []),
        ((rule(prefix="0", pattern="X."),), ["004930@acme-pbx"]),
        ((rule(prefix="1", pattern="X."),), []),
        ((rule(2, prepend="2"), rule(1, prepend="1")), ["1004930@acme-pbx"]),
    ],
)
def test_outbound_rules(rules: tuple[OutboundRule, ...], expected: list[str]) -> None:
    assert routes("004930", *rules) == expected


def test_the_default_connection_takes_the_rest_as_dialled() -> None:
    assert routes("7", rule(prefix="00"), default="spare") == ["7@spare"]
    assert routes("7", rule(prefix="00"), default="off") == []


# Sources ------------------------------------------------------------------------------------------

NAMED = frozenset(("pbx.example", "other.example"))


@pytest.mark.parametrize(
    ("transport", "client", "believed"),
    [
        ("udp", "", "udp tcp tls"),
        ("tcp", "", "tcp tls"),
        ("tls", "", "tls"),
        ("auto", "", "udp tcp tls"),
        ("tls", "pbx.example", "tls+name"),
        ("auto", "pbx.example", "tls+name"),
        ("udp", "pbx.example", "tls+name"),
        ("tls", "elsewhere.example", ""),
    ],
)
def test_over_what_a_connection_is_believed(transport: str, client: str, believed: str) -> None:
    acme = tenant(connections=(connection(transport=transport, tls_client=client),))
    sources = compile_table(Table(INSTALLATION, (acme,))).sources
    for _ in range(2):  # also as remembered
        without = [t for t in ("udp", "tcp", "tls", "ws", "wss") if sources.find("198.51.100.1", 5060, t).known]
        named = [t for t in ("udp", "tcp", "tls", "ws", "wss") if sources.find("198.51.100.1", 9, t, NAMED).known]
        assert " ".join(without) == believed.replace("tls+name", "")
        assert " ".join(named) == believed.replace("+name", "")


def test_certificates_tell_connections_of_one_source_apart() -> None:
    one = connection(id="one", transport="tls", tls_client="one.example")
    other = connection("globex", "198.51.100.1", id="other", transport="tls", tls_client="other.example")
    table = Table(INSTALLATION, (tenant(connections=(one,)), tenant("globex", connections=(other,))))
    sources = compile_table(table).sources
    for names, ids in (((), []), (("one.example",), ["one"]), (("other.example", "x"), ["other"])):
        found = sources.find("198.51.100.1", 5060, "tls", frozenset(names))
        assert [ref.connection.id for ref in found.on.values()] == ids


def test_names_that_no_connection_asks_for_fill_no_memory() -> None:
    sources = compile_table(Table(INSTALLATION, (ACME,))).sources
    first = sources.find("198.51.100.1", 5060, "tls")
    assert all(sources.find("198.51.100.1", 5060, "tls", frozenset((f"n{n}",))) is first for n in range(10))


# What PBXs write ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "sip:+49-30-123456@acme.example;user=phone",
        "sip:+4930123456;npdi@acme.example;user=phone",
        "sip:101;phone-context=acme.example@acme.example;user=phone",
        "sip:101@acme.example.",
    ],
)
def test_telephone_numbers_and_names_as_they_may_be_written(uri: str) -> None:
    found = explain(compile_table(Table(INSTALLATION, (tenant(),))), "198.51.100.1", 5060, "udp", uri)
    assert found.accepted
    assert found.user is not None
    assert found.user.extension == "101"


def test_a_local_domain_with_the_mode_on_is_not_the_only_tenant_without_it() -> None:
    """globex went over to the mode; the PBX still has the Contact from before. Its calls are not acme's."""
    here = {"sources": ("198.51.100.1",)}
    off = tenant("acme", connections=(connection("acme", multi_tenant=False, **here),))
    on = tenant("globex", connections=(connection("globex", multi_tenant=True, **here),))
    uri = "sip:101@192.0.2.250;local-domain={}"
    compiled = compile_table(Table(INSTALLATION, (off, on)))
    assert explain(compiled, "198.51.100.1", 5060, "udp", uri.format("globex.example")).status == 404
    assert explain(compiled, "198.51.100.1", 5060, "udp", uri.format("acme.example")).accepted
