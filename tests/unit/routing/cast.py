"""The tables of the routing tests: acme and globex, who both have a user 101."""

from __future__ import annotations

from dataclasses import replace

from sipd.routing.model import (
    Connection,
    Group,
    Guard,
    Installation,
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

SEALED = "siv1:" + "A" * 30
INSTALLATION = Installation("voice.example", ("edge.voice.example", "192.0.2.250"))


def user(extension: str, /, tenant: str = "acme", **changes: object) -> User:
    account = UpstreamAccount(f"{tenant}-pbx", extension, "", SEALED)
    made = User(f"{tenant}-{extension}", extension, f"User {extension}", True, SEALED, SEALED, upstream=(account,))
    return replace(made, **changes)  # type: ignore[arg-type]


def connection(tenant: str = "acme", source: str = "198.51.100.1", **changes: object) -> Connection:
    made = Connection(f"{tenant}-pbx", "PBX", True, True, "pbx.example", "198.51.100.1", 0, "udp", sources=(source,))
    return replace(made, **changes)  # type: ignore[arg-type]


def group(extension: str = "600", /, **changes: object) -> Group:
    """Sales, who are both users of acme."""
    made = Group(f"acme-{extension}", extension, "Sales", True, "all", (Member(1, "acme-101"), Member(2, "acme-102")))
    return replace(made, **changes)  # type: ignore[arg-type]


def schedule(**changes: object) -> Schedule:
    """Mornings and afternoons of Mondays, in Berlin, and a day off."""
    openings = (Opening(0, "08:00", "12:00"), Opening(0, "13:00", "17:00"))
    made = Schedule("hours", "Office hours", "Europe/Berlin", openings, ("2026-12-21",))
    return replace(made, **changes)  # type: ignore[arg-type]


def guard(prefix: str = "00882", **changes: object) -> Guard:
    """Two calls an hour to a satellite network."""
    return replace(Guard(f"acme-{prefix.strip('+*')}", prefix, 2), **changes)  # type: ignore[arg-type]


def tenant(slug: str = "acme", **changes: object) -> Tenant:
    source = "198.51.100.1" if slug == "acme" else "198.51.100.2"
    made = Tenant(
        f"{slug}-id",
        slug,
        slug.title(),
        False,
        f"{slug}.example",
        users=(user("101", slug), user("102", slug)),
        connections=(connection(slug, source),),
        numbers=(Number(f"{slug}-n", "+4930123456", user=f"{slug}-101"),),
        outbound=(OutboundRule(f"{slug}-r", 1, "00", 2, "+", f"{slug}-pbx"),),
        default_connection=f"{slug}-pbx",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


ACME = tenant("acme")
GLOBEX = tenant("globex")
TABLE = Table(INSTALLATION, (ACME, GLOBEX))
