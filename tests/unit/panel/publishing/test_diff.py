"""The diff speaks of people and numbers, and never of a secret."""

import dataclasses
from dataclasses import replace

import pytest

from panel.publishing.diff import Change, Detail, diff_tables, diff_tenants, summary
from sipd.routing.model import (
    Alternate,
    Connection,
    Group,
    Guard,
    Installation,
    Limits,
    Member,
    Number,
    Opening,
    OutboundRule,
    Schedule,
    Table,
    Tenant,
    UpstreamAccount,
    User,
)

pytestmark = pytest.mark.unit

ANN = User("u1", "101", "Ann", True, "siv1:aaaa", "siv1:bbbb", upstream=(UpstreamAccount("c1", "101", "", "siv1:pw"),))
PBX = Connection("c1", "Main PBX", True, False, "pbx.example", "192.0.2.5", 0, "udp", sources=("192.0.2.5",))
ACME = Tenant("t1", "acme", "Acme", False, "acme.example", users=(ANN,), connections=(PBX,))


def changes(**fields: object) -> list[Change]:
    return diff_tenants(ACME, replace(ACME, **fields))  # type: ignore[arg-type]


def test_equal_tables_have_no_changes() -> None:
    table = Table(Installation("hosted.example"), (ACME,))
    assert diff_tables(table, table) == []
    assert diff_tables(None, None) == []


def test_the_mode_switch_is_said_in_words() -> None:
    found = changes(connections=(replace(PBX, multi_tenant=True),))
    assert found == [
        Change("t1", "Acme", "changed", "connection Main PBX", (Detail("multi-tenant mode", "off", "on"),)),
    ]


def test_who_is_named_by_extension_and_name() -> None:
    found = changes(users=(replace(ANN, extension="102", ring_seconds=20),))
    assert found[0].subject == "user 102 (Ann)"
    assert found[0].details == (Detail("extension", "101", "102"), Detail("rings for", "60 s", "20 s"))


@pytest.mark.parametrize(
    ("user", "label"),
    [
        (replace(ANN, ha1_md5="siv1:secret"), "SIP password"),
        (replace(ANN, ha1_sha256="siv1:secret"), "SIP password"),
        (
            replace(ANN, upstream=(replace(ANN.upstream[0], password="siv1:secret"),)),
            "password at the PBX (connection Main PBX)",
        ),
    ],
)
def test_a_secret_is_only_ever_changed(user: User, label: str) -> None:
    found = changes(users=(user,))
    assert found[0].details == (Detail(label, note="changed"),)
    assert "siv1" not in repr(found)


def test_a_new_user_is_told_without_secrets_and_defaults() -> None:
    bob = replace(ANN, id="u2", extension="102", name="", forward_busy="101")
    found = changes(users=(ANN, bob))
    details = (Detail("forward when busy", after="101"), Detail("account at connection Main PBX", after="101"))
    assert found == [Change("t1", "Acme", "added", "user 102", details)]


def test_removed_things_are_named_as_they_were() -> None:
    assert changes(users=()) == [Change("t1", "Acme", "removed", "user 101 (Ann)")]


def test_accounts_come_and_go() -> None:
    found = changes(users=(replace(ANN, upstream=()),))
    assert found[0].details == (Detail("account at connection Main PBX", before="101"),)


def test_an_account_that_changes_says_where() -> None:
    account = replace(ANN.upstream[0], username="acme-101", auth_username="a101")
    labels = [detail.label for detail in changes(users=(replace(ANN, upstream=(account,)),))[0].details]
    assert labels == ["user at the PBX (connection Main PBX)", "name for sign-in at the PBX (connection Main PBX)"]


def test_numbers_and_rules_name_what_they_point_to() -> None:
    number = Number("n1", "+4930123", user="u1")
    rule = OutboundRule("r1", 1, "00", 2, "+", "c1")
    found = changes(numbers=(number,), outbound=(rule,))
    assert found[0] == Change("t1", "Acme", "added", "number +4930123", (Detail("rings", after="user 101 (Ann)"),))
    assert found[1].subject == "outbound rule for 00"
    assert Detail("goes out through", after="connection Main PBX") in found[1].details


SALES = Group("g1", "600", "Sales", True, "in_turn", (Member(2, "u1"), Member(1, "u2")), schedule="s1")
HOURS = Schedule("s1", "Office", "Europe/Berlin", (Opening(4, "08:00", "12:00"), Opening(0, "08:00", "17:00")))


def test_a_new_group_says_who_rings_and_how() -> None:
    [found, _] = changes(groups=(SALES,), schedules=(HOURS,))
    assert found.subject == "group 600 (Sales)"
    assert found.details == (
        Detail("members ring", after="in turn, from the first on"),
        Detail("members", after="u2, user 101 (Ann)"),
        Detail("business hours", after="schedule Office"),
    )


def test_business_hours_are_said_in_days_and_times() -> None:
    old, new = replace(ACME, schedules=(HOURS,)), replace(HOURS, time_zone="UTC", openings=HOURS.openings[:1])
    [found] = diff_tenants(old, replace(old, schedules=(replace(new, holidays=("2026-12-25",)),)))
    assert (found.verb, found.subject) == ("changed", "schedule Office")
    assert found.details == (
        Detail("time zone", "Europe/Berlin", "UTC"),
        Detail("open", "Monday 08:00 to 17:00, Friday 08:00 to 12:00", "Friday 08:00 to 12:00"),
        Detail("closed on", "", "2026-12-25"),
    )


def test_features_of_a_user_and_a_connection() -> None:
    user = replace(ANN, do_not_disturb=True, fork="serial", caller_id="+4930", hide_caller_id=True)
    link = replace(PBX, transport="auto", caller_id="both", tls_client="pbx.example", tls_verify=False)
    [on_connection, on_user] = changes(users=(user,), connections=(link,))
    assert on_user.details == (
        Detail("do not disturb", "off", "on"),
        Detail("phones ring", "all phones at once", "one phone after the other"),
        Detail("number shown to those called", "", "+4930"),
        Detail("number hidden", "off", "on"),
    )
    assert on_connection.details == (
        Detail("transport", "UDP", "as DNS says"),
        Detail("certificate of the PBX checked", "on", "off"),
        Detail("client certificate asked of the PBX", "", "pbx.example"),
        Detail("shows the caller's number", "the account only", "in From and P-Asserted-Identity"),
    )


GUARD = Guard("w1", "00882", 5)


def test_a_guard_is_told_with_what_it_allows() -> None:
    [found] = changes(guards=(GUARD,))
    assert found == Change(
        "t1", "Acme", "added", "guard for 00882", (Detail("each user may make", after="5 calls an hour"),)
    )
    [none] = changes(guards=(replace(GUARD, calls_per_hour=0),))
    assert none.details == (Detail("each user may make", after="none"),)
    old = replace(ACME, guards=(GUARD,), schedules=(HOURS,))
    [changed] = diff_tenants(old, replace(old, guards=(replace(GUARD, calls_per_hour=1, schedule="s1"),)))
    assert changed.details == (
        Detail("each user may make", "5 calls an hour", "1 call an hour"),
        Detail("only within", "", "schedule Office"),
    )
    assert [(each.verb, each.subject) for each in diff_tenants(old, replace(old, guards=()))] == [
        ("removed", "guard for 00882")
    ]


def test_guards_and_networks_of_the_installation_are_told() -> None:
    old = Installation("x.example", guards=(GUARD,), blocked=("192.0.2.1",))
    new = Installation("x.example", guards=(replace(GUARD, calls_per_hour=2),), allowed=("10.0.0.0/8",))
    assert diff_tables(Table(old), Table(new)) == [
        Change(
            "",
            "",
            "changed",
            "installation",
            (
                Detail("networks never banned", "", "10.0.0.0/8"),
                Detail("networks that get no answer", "192.0.2.1", ""),
            ),
        ),
        Change(
            "", "", "changed", "guard for 00882", (Detail("each user may make", "5 calls an hour", "2 calls an hour"),)
        ),
    ]


def test_relay_of_registrations_and_media_and_further_addresses_are_said_in_words() -> None:
    places = (Alternate(2, "b.example", 0), Alternate(1, "192.0.2.6", 5080))
    [found] = changes(connections=(replace(PBX, strategy="relay", alternates=places, media="relay"),))
    assert found.details == (
        Detail("registration", "registers each user", "phones register themselves, through the edge"),
        Detail("further addresses", "", "192.0.2.6 port 5080, b.example"),
        Detail("media relay", "off", "on"),
    )


def test_every_field_of_the_table_is_told() -> None:
    """So that a new one is not forgotten: changed alone, each gives a detail."""
    rule = OutboundRule("r1", 1, "00", 2, "+", "c1")
    items = {"users": ANN, "connections": PBX, "groups": SALES, "schedules": HOURS, "outbound": rule}
    items["numbers"] = Number("n1", "+4930")
    items["guards"] = GUARD
    for collection, item in items.items():
        before = replace(ACME, **{collection: (item,)})  # type: ignore[arg-type]
        for field in dataclasses.fields(item):  # type: ignore[arg-type]
            if field.name != "id":
                other = replace(item, **{field.name: _other(getattr(item, field.name))})  # type: ignore[type-var]
                found = diff_tenants(before, replace(before, **{collection: (other,)}))  # type: ignore[arg-type]
                assert found[0].details, (collection, field.name)


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return Limits(calls=7) if isinstance(value, Limits) else ("x",) if not value else ()


def test_tenant_fields_and_limits() -> None:
    found = changes(suspended=True, limits=Limits(calls=5), alias_domains=("a.example", "b.example"))
    assert found[0].details == (
        Detail("suspended", "off", "on"),
        Detail("further domains", "", "a.example, b.example"),
        Detail("calls at once", "no limit", "5"),
    )


def test_a_new_tenant_lists_what_it_brings_and_a_gone_one_does_not() -> None:
    new = diff_tables(Table(Installation("x.example")), Table(Installation("x.example"), (ACME,)))
    assert [change.subject for change in new] == ["tenant Acme", "connection Main PBX", "user 101 (Ann)"]
    gone = diff_tenants(ACME, None)
    assert [(change.verb, change.subject) for change in gone] == [("removed", "tenant Acme")]


def test_the_installation_comes_first() -> None:
    old = Table(Installation("x.example"), (ACME,))
    new = Table(Installation("y.example", ("edge.example",)), (replace(ACME, name="Acme Ltd"),))
    found = diff_tables(old, new)
    assert found[0].tenant == ""
    assert found[0].details[1] == Detail("names and addresses of the edge", "", "edge.example")
    assert found[1].details == (Detail("name", "Acme", "Acme Ltd"),)


def test_summary_is_one_line() -> None:
    found = diff_tenants(None, ACME)
    assert summary([]) == "nothing changed"
    assert summary(found, 1) == "tenant Acme added; and 2 more"
    assert summary(found[:1]) == "tenant Acme added"
