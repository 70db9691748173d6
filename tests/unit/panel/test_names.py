"""Short names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.signup import names


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme", "acme"),
        ("Acme & Sons Ltd.", "acme-and-sons-ltd"),
        ("  Müller   Straße ", "mueller-strasse"),
        ("Crème Brûlée", "creme-brulee"),
        ("日本", ""),
        ("--", ""),
        ("x" * 60, "x" * names.MAX_SLUG),
    ],
)
def test_proposals(name: str, slug: str) -> None:
    assert names.propose(name) == slug


@given(st.text(max_size=80))
def test_a_proposal_is_well_formed_or_empty_or_says_why(name: str) -> None:
    slug = names.propose(name)
    assert len(slug) <= names.MAX_SLUG
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug.startswith("-")
    assert not slug.endswith("-")


@given(st.text(max_size=80))
def test_judging_never_fails(slug: str) -> None:
    assert isinstance(names.fault(slug, "tenantry.example"), str)


@pytest.mark.parametrize("slug", ["acme", "a1", "1a", "my-company", "x" * names.MAX_SLUG])
def test_good_ones(slug: str) -> None:
    assert names.fault(slug, "tenantry.example") == ""


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "a",
        "-a",
        "a-",
        "A1",
        "a.b",
        "a_b",
        "a b",
        "ä1",
        "x" * (names.MAX_SLUG + 1),
        "ab--c",
        *sorted(names.RESERVED),
    ],
)
def test_bad_ones(slug: str) -> None:
    assert names.fault(slug, "tenantry.example")


def test_alternatives_are_good_themselves() -> None:
    made = list(names.alternatives("x" * names.MAX_SLUG))
    assert made[1].endswith("-2")
    assert all(names.fault(slug, "tenantry.example") == "" for slug in made)
