"""Each tenant stands or falls alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from panel.publishing.admission import Admission, admit
from sipd.routing.model import Connection, Installation, Tenant
from sipd.routing.validate import contribution

pytestmark = pytest.mark.unit
HOUSE = Installation("hosted.example", ("192.0.2.1",))


def tenant(slug: str, *sources: str, mode: bool = False, **fields: object) -> Tenant:
    connection = Connection("c", "PBX", True, mode, "pbx.example", "198.51.100.9", 0, "udp", sources=sources)
    given = {"name": slug, "suspended": False, "primary_domain": f"{slug}.example", "connections": (connection,)}
    return Tenant(id=slug, slug=slug, **{**given, **fields})  # type: ignore[arg-type]


def verdict(live: list[Tenant], *changed: Tenant) -> Admission:
    return admit({t.id: contribution(t) for t in live}, HOUSE, {t.id: t for t in changed})


def test_good_parts_go_live() -> None:
    found = verdict([], tenant("a", "198.51.100.1"), tenant("b", "198.51.100.2"))
    assert (found.admitted, found.held) == ({"a", "b"}, set())


def test_an_error_of_one_holds_that_one() -> None:
    found = verdict([], tenant("a", primary_domain="not a domain"), tenant("b"))
    assert (found.admitted, found.held) == ({"b"}, {"a"})
    assert all(problem.where[0] == "a" for problem in found.problems if problem.is_error)


def test_who_takes_what_is_another_s_is_held() -> None:
    found = verdict([tenant("a", "198.51.100.1")], tenant("b", "198.51.100.0/24"))
    assert (found.admitted, found.held) == (set(), {"b"})


def test_who_is_live_goes_first() -> None:
    live = tenant("z", "198.51.100.1")
    found = verdict([live], replace(live, name="renamed"), tenant("a", "198.51.100.1"))
    assert (found.admitted, found.held) == ({"z"}, {"a"})


def test_of_two_new_ones_one_goes_live() -> None:
    found = verdict([], tenant("a", "198.51.100.1"), tenant("b", "198.51.100.1"))
    assert (found.admitted, found.held) == ({"a"}, {"b"})


def test_one_that_gives_way_lets_the_other_in() -> None:
    live = tenant("a", "198.51.100.1")
    found = verdict([live], tenant("a", "198.51.100.1", mode=True), tenant("b", "198.51.100.1", mode=True))
    assert found.held == set()


def test_a_tenant_that_would_fall_back_still_keeps_its_place() -> None:
    """z wants b's address and stays at its own; a, who wants what z has, is held too."""
    found = verdict(
        [tenant("z", "198.51.100.1"), tenant("b", "198.51.100.2")],
        tenant("z", "198.51.100.2"),
        tenant("a", "198.51.100.1"),
    )
    assert found.held == {"z", "a"}
