"""Hypothesis strategies for the routing table: valid ones, and any JSON at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sipd.routing import model
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

Row = TypeVar("Row")

FIRST, LAST = date(2026, 1, 1), date(2027, 12, 31)
"""Of holidays."""
PLATFORM = "voice.example"
EDGE_HOSTS = ("edge.voice.example", "192.0.2.250")

LOWER = "abcdefghijklmnopqrstuvwxyz"
NAMES = st.text(st.sampled_from(LOWER + "ABCäöß漢 .-&()’"), min_size=1, max_size=20).filter(
    lambda text: text.strip() != ""
)
SEALED = st.text(st.sampled_from(LOWER + "0123456789-_"), min_size=22, max_size=60).map(
    lambda text: "siv1:x" + text[1:]
)
LIMITS = st.builds(
    Limits,
    calls=st.none() | st.integers(1, model.MAX_CALLS),
    calls_per_second=st.none() | st.integers(1, model.MAX_CALLS_PER_SECOND),
)
LABELS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
EXTENSIONS = st.from_regex(r"[1-9][0-9]{2,4}|[a-z]{3,8}(\.[a-z]{2,5})?", fullmatch=True)
DIALLED = st.from_regex(r"\+?[0-9]{3,12}", fullmatch=True)

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
"""Daylight saving by an hour north and south, by half an hour, and none."""
PATTERNS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "+"]),
    st.lists(st.sampled_from([*"0123456789*XZN", "[1-35]", "[07]", "[*2]"]), min_size=1, max_size=6).map("".join),
    st.sampled_from(["", ".", "!"]),
)
OUTSIDE = "+4930777777"
"""No number of a tenant."""

ALLOWED = st.sampled_from([(), ("192.0.2.1",), ("2001:db8::/32", "192.0.2.0/24")])
BLOCKED = st.sampled_from([(), ("203.0.113.0/24",), ("192.0.2.128/25", "2001:db8::bad")])
"""Networks; none in both lists."""
PREFIXES = st.from_regex(r"(\+|00|\*)?[0-9]{1,4}", fullmatch=True)
"""Of numbers that are expensive."""

ANY_JSON: SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
"""What `json.loads` can give, NaN and lone surrogates included."""


@st.composite
def tables(draw: DrawFn, max_tenants: int = 4) -> Table:
    """A table without errors (warnings may be), its rows in no order."""
    slugs = draw(st.lists(LABELS, max_size=max_tenants, unique=True))
    shared_pbx = draw(st.booleans())
    rows = [draw(tenants(number, slug, shared_pbx)) for number, slug in enumerate(slugs)]
    installation = Installation(
        PLATFORM,
        EDGE_HOSTS,
        draw(LIMITS),
        guards=draw(guards("i", [""])),
        allowed=draw(ALLOWED),
        blocked=draw(BLOCKED),
    )
    return Table(installation, tuple(draw(st.permutations(rows))))


@st.composite
def tenants(draw: DrawFn, number: int, slug: str, shared_pbx: bool) -> Tenant:
    """One tenant; `number` keeps its ids and addresses apart from those of others."""
    rows = [draw(connections(number, place, shared_pbx)) for place in range(draw(st.integers(0, 2)))]
    ids = [connection.id for connection in rows]
    hours = tuple(draw(schedules(number, place)) for place in range(draw(st.integers(0, 2))))
    schedule_ids = ["", *(schedule.id for schedule in hours)]
    people = draw(users(number, ids, schedule_ids))
    teams = tuple(draw(groups(number, place, people, schedule_ids)) for place in range(draw(st.integers(0, 2))))
    return Tenant(
        id=f"t{number}",
        slug=slug,
        name=draw(NAMES),
        suspended=draw(st.booleans()),
        primary_domain=f"{slug}.{PLATFORM}",
        alias_domains=tuple(f"{label}.{slug}.example" for label in draw(st.lists(LABELS, max_size=2, unique=True))),
        users=people,
        connections=tuple(draw(st.permutations(rows))),
        groups=tuple(draw(st.permutations(teams))),
        schedules=tuple(draw(st.permutations(hours))),
        numbers=draw(numbers(number, [*people, *teams], schedule_ids)),
        outbound=draw(outbound(number, ids)) if ids else (),
        default_connection=draw(st.sampled_from(["", *ids])),
        caller_id=draw(st.just("") | DIALLED),
        limits=draw(LIMITS),
        guards=draw(guards(f"t{number}", schedule_ids)),
    )


@st.composite
def guards(draw: DrawFn, owner: str, schedule_ids: list[str]) -> tuple[Guard, ...]:
    """Guards for prefixes of their own."""
    prefixes = draw(st.lists(PREFIXES, max_size=3, unique=True))
    hourly = st.integers(0, 20) | st.just(model.MAX_CALLS_PER_HOUR)
    rows = [
        Guard(f"{owner}w{place}", prefix, draw(hourly), draw(st.sampled_from(schedule_ids)))
        for place, prefix in enumerate(prefixes)
    ]
    return tuple(draw(st.permutations(rows)))


@st.composite
def alternates(draw: DrawFn) -> tuple[Alternate, ...]:
    """Further places of a PBX, in any order of their positions."""
    places = st.tuples(st.sampled_from(["second.example", "192.0.2.12", "2001:db8::12"]), st.sampled_from([0, 5070]))
    chosen = draw(st.lists(places, max_size=3, unique=True))
    return tuple(Alternate(draw(st.integers(0, 3)), host, port) for host, port in chosen)


@st.composite
def connections(draw: DrawFn, tenant: int, place: int, shared_pbx: bool) -> Connection:
    """A connection to a PBX that all tenants share with mode on, or to one of the tenant's own."""
    own = f"198.51.{tenant}.{place + 1}"
    multi_tenant = draw(st.booleans())
    transport = draw(st.sampled_from(model.TRANSPORTS))
    clients = ["", "client.pbx.example"] if transport in ("tls", "auto") else [""]
    sources = {"192.0.2.0/24"} if multi_tenant and shared_pbx else {own, f"{own[:-1]}{place + 101}:5080"}
    return Connection(
        id=f"t{tenant}c{place}",
        name=draw(NAMES),
        enabled=draw(st.booleans()),
        multi_tenant=multi_tenant,
        registrar_domain=draw(st.sampled_from(["pbx.example", "192.0.2.10", "2001:db8::10"])),
        host=draw(st.sampled_from(["pbx.example", "192.0.2.10", "2001:db8::10"])),
        port=draw(st.sampled_from([0, 5060, 5080, 65535])),
        transport=transport,
        outbound_proxy=draw(st.sampled_from(["", "sip:proxy.example", "sip:[2001:db8::7]:5061;transport=tcp;lr"])),
        sources=tuple(draw(st.permutations(sorted(sources)))),
        strategy=draw(st.sampled_from(model.STRATEGIES)),
        expires=draw(st.integers(model.MIN_EXPIRES, model.MAX_EXPIRES)),
        internal_calls=draw(st.sampled_from(model.INTERNAL_CALLS)),
        tls_verify=draw(st.booleans()),
        tls_client=draw(st.sampled_from(clients)),
        caller_id=draw(st.sampled_from(model.CALLER_IDS)),
        alternates=draw(alternates()),
        media=draw(st.sampled_from(model.MEDIA)),
        limits=draw(LIMITS),
    )


@st.composite
def users(draw: DrawFn, tenant: int, connection_ids: list[str], schedule_ids: list[str]) -> tuple[User, ...]:
    """Users that share no extension or alias, and of whom none forwards always to another."""
    parts = draw(st.lists(EXTENSIONS, max_size=6, unique=True))
    own = draw(st.integers(0, len(parts)))
    rows = [draw(user(tenant, extension, parts, connection_ids, schedule_ids)) for extension in parts[:own]]
    if rows:
        rows[0] = replace(rows[0], aliases=tuple(parts[own:]))
    return tuple(draw(st.permutations(rows)))


@st.composite
def user(
    draw: DrawFn, tenant: int, extension: str, known: list[str], connection_ids: list[str], schedule_ids: list[str]
) -> User:
    """One user, with conditional forwards to others."""
    places = draw(st.lists(st.sampled_from(connection_ids), unique=True)) if connection_ids else []
    account = st.builds(
        UpstreamAccount, st.just(""), st.just(extension), st.sampled_from(["", "auth-" + extension]), SEALED
    )
    accounts = [(place, draw(account)) for place in places]
    target = st.just("") | st.sampled_from(known) | DIALLED
    return User(
        id=f"t{tenant}u{extension.replace('.', '_')}",
        extension=extension,
        name=draw(st.just("") | NAMES | st.just("Pat O'Neill")),
        enabled=draw(st.booleans()),
        ha1_md5=draw(st.just("") | SEALED),
        ha1_sha256=draw(st.just("") | SEALED),
        upstream=tuple(UpstreamAccount(place, a.username, a.auth_username, a.password) for place, a in accounts),
        forward_always=draw(st.just("") | st.just("+4930999999")),
        forward_busy=draw(target),
        forward_no_answer=draw(target),
        forward_unreachable=draw(target),
        do_not_disturb=draw(st.booleans()),
        schedule=draw(st.sampled_from(schedule_ids)),
        forward_closed=draw(st.sampled_from(["", OUTSIDE])),
        fork=draw(st.sampled_from(model.FORKS)),
        serial_seconds=draw(st.integers(model.MIN_RING_SECONDS, model.MAX_RING_SECONDS)),
        caller_id=draw(st.just("") | DIALLED),
        hide_caller_id=draw(st.booleans()),
        ring_seconds=draw(st.integers(model.MIN_RING_SECONDS, model.MAX_RING_SECONDS)),
        max_bindings=draw(st.integers(1, model.MAX_BINDINGS)),
        limits=draw(LIMITS),
    )


@st.composite
def groups(draw: DrawFn, tenant: int, place: int, people: tuple[User, ...], schedule_ids: list[str]) -> Group:
    """A ring group whose extension and alias are no user's."""
    rung = draw(st.lists(st.sampled_from(people), unique=True)) if people else []
    known = st.sampled_from(["", OUTSIDE, *(user.extension for user in people)])
    return Group(
        id=f"t{tenant}g{place}",
        extension=f"team-{place}",
        name=draw(st.just("") | NAMES),
        enabled=draw(st.booleans()),
        strategy=draw(st.sampled_from(model.GROUP_STRATEGIES)),
        members=tuple(Member(draw(st.integers(0, 3)), user.id) for user in rung),
        member_seconds=draw(st.integers(model.MIN_RING_SECONDS, model.MAX_RING_SECONDS)),
        ring_seconds=draw(st.integers(model.MIN_RING_SECONDS, model.MAX_RING_SECONDS)),
        forward_no_answer=draw(known),
        schedule=draw(st.sampled_from(schedule_ids)),
        forward_closed=draw(st.sampled_from(["", OUTSIDE])),
        aliases=tuple(draw(st.lists(st.sampled_from([f"alias-{place}", f"other-{place}"]), unique=True))),
    )


@st.composite
def schedules(draw: DrawFn, tenant: int, place: int) -> Schedule:
    """Business hours in any of the zones; the openings may overlap."""
    return Schedule(
        id=f"t{tenant}s{place}",
        name=draw(NAMES),
        time_zone=draw(ZONES),
        openings=tuple(draw(st.lists(openings(), max_size=5, unique=True))),
        holidays=tuple(draw(st.lists(st.dates(min_value=FIRST, max_value=LAST).map(str), max_size=3, unique=True))),
    )


@st.composite
def openings(draw: DrawFn) -> Opening:
    """One stretch of at least a minute."""
    opens = draw(st.integers(0, 24 * 60 - 1))
    closes = draw(st.integers(opens + 1, 24 * 60))
    return Opening(draw(st.integers(0, 6)), clock(opens), clock(closes))


def clock(minute: int) -> str:
    """Minutes after midnight as `HH:MM`."""
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def numbers(draw: DrawFn, tenant: int, stations: list[User | Group], schedule_ids: list[str]) -> tuple[Number, ...]:
    """Numbers longer than any extension, so that none is both."""
    given = draw(st.lists(st.integers(493_000_000, 493_999_999), max_size=3, unique=True))
    rows = []
    for place, digits in enumerate(given):
        text = draw(st.sampled_from([f"+{digits}", str(digits)]))
        reached = draw(st.sampled_from([*stations, None]))
        rows.append(
            Number(
                id=f"t{tenant}n{place}",
                number=text,
                user=reached.id if isinstance(reached, User) else "",
                group=reached.id if isinstance(reached, Group) else "",
                forward="" if reached else "+4930888888",
                schedule=draw(st.sampled_from(schedule_ids)),
                forward_closed=draw(st.sampled_from(["", OUTSIDE])),
            )
        )
    return tuple(draw(st.permutations(rows)))


@st.composite
def outbound(draw: DrawFn, tenant: int, connection_ids: list[str]) -> tuple[OutboundRule, ...]:
    """Rules in any order of positions."""
    rules = [
        OutboundRule(
            id=f"t{tenant}r{place}",
            position=draw(st.integers(0, 5)),
            prefix=draw(st.from_regex(r"(\+|00|0)?[0-9]{0,3}", fullmatch=True)),
            strip=draw(st.integers(0, 3)),
            prepend=draw(st.sampled_from(["", "+49", "9"])),
            connection=(connection := draw(st.sampled_from(connection_ids))),
            pattern=draw(st.just("") | PATTERNS),
            fallback=draw(st.sampled_from(["", *(each for each in connection_ids if each != connection)])),
        )
        for place in range(draw(st.integers(0, 3)))
    ]
    return tuple(draw(st.permutations(rules)))


@st.composite
def shuffled(draw: DrawFn, table: Table) -> Table:
    """The same table as another query might give it: all rows in another order."""

    def mix(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(draw(st.permutations(rows)))

    def person(row: User) -> User:
        return replace(row, aliases=mix(row.aliases), upstream=mix(row.upstream))

    def organisation(row: Tenant) -> Tenant:
        return replace(
            row,
            alias_domains=mix(row.alias_domains),
            users=mix(tuple(map(person, row.users))),
            connections=mix(
                tuple(
                    replace(each, sources=mix(each.sources), alternates=mix(each.alternates))
                    for each in row.connections
                )
            ),
            guards=mix(row.guards),
            groups=mix(
                tuple(replace(each, aliases=mix(each.aliases), members=mix(each.members)) for each in row.groups)
            ),
            schedules=mix(
                tuple(replace(each, openings=mix(each.openings), holidays=mix(each.holidays)) for each in row.schedules)
            ),
            numbers=mix(row.numbers),
            outbound=mix(row.outbound),
        )

    whole = table.installation
    installation = replace(
        whole,
        edge_hosts=mix(whole.edge_hosts),
        guards=mix(whole.guards),
        allowed=mix(whole.allowed),
        blocked=mix(whole.blocked),
    )
    return Table(installation, mix(tuple(map(organisation, table.tenants))))
