from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd.routing import codec
from sipd.routing.lookup import compile_table
from sipd.routing.model import Installation, Table, Tenant, User
from tests import strategies

ACME = Tenant("t1", "acme", "Acme", False, "acme.example", users=(User("u1", "101", "Ann", True, "", ""),))
TABLE = Table(Installation("voice.example"), (ACME,))


def document() -> dict[str, object]:
    return json.loads(codec.canonical(codec.to_document(TABLE)))


def paths(doc: object) -> list[str]:
    table, problems = codec.from_document(doc)
    assert (table is None) == bool(problems)
    return [problem.path for problem in problems]


@given(strategies.tables())
def test_what_is_encoded_is_decoded_and_compiles(table: Table) -> None:
    encoded = codec.encode(table)
    assert codec.decode(encoded.manifest, encoded.parts) == codec.ordered(table)
    through_json = json.loads(codec.canonical([encoded.manifest, encoded.parts]))
    decoded = codec.decode(*through_json)
    assert decoded == codec.ordered(table)
    assert compile_table(decoded).hash == encoded.hash


@given(strategies.tables())
def test_what_is_written_to_a_file_is_read_back(table: Table) -> None:
    doc = json.loads(codec.canonical(codec.to_document(table)))
    assert codec.from_document(doc) == (codec.ordered(table), [])


@given(st.data())
def test_the_order_of_rows_is_not_in_the_bytes(data: st.DataObject) -> None:
    table = data.draw(strategies.tables())
    other = data.draw(strategies.shuffled(table))
    assert codec.encode(other) == codec.encode(table)
    assert codec.encode(codec.ordered(table)).hash == codec.encode(table).hash


@given(strategies.tables(max_tenants=2))
def test_each_part_is_decoded_alone(table: Table) -> None:
    encoded = codec.encode(table)
    assert codec.part_names(encoded.manifest)[0] == codec.part_hash(codec.encode_part(table.installation))
    for tenant in table.tenants:
        part = codec.encode_part(tenant)
        assert codec.part_hash(part) in encoded.parts
        assert codec.encode_part(codec.decode_part(Tenant, part)) == part


@given(strategies.ANY_JSON)
def test_no_json_makes_reading_raise(doc: object) -> None:
    codec.from_document(doc)
    codec.from_document({"format": 1, "installation": doc, "tenants": doc})
    codec.from_document({"format": 1, "installation": {"platform_domain": ""}, "tenants": [doc]})
    with pytest.raises(codec.FormatError):
        codec.decode(doc, {})
    with pytest.raises(codec.FormatError):
        codec.decode_part(Tenant, doc)


@given(st.data())
def test_a_value_put_anywhere_is_a_problem_or_a_table(data: st.DataObject) -> None:
    doc = document()
    place: object = doc
    while isinstance(place, dict | list) and place:
        owner: dict[object, object] = place if isinstance(place, dict) else dict(enumerate(place))
        key = data.draw(st.sampled_from(sorted(owner, key=str)))
        if data.draw(st.booleans()) or not owner[key]:
            place[key] = data.draw(strategies.ANY_JSON)  # type: ignore[index, call-overload]
            break
        place = owner[key]
    table, problems = codec.from_document(doc)
    assert (table is None) == bool(problems)
    for problem in problems:
        problem.message.encode()
        problem.path.encode()


def test_optional_fields_may_be_left_out_and_are_always_written() -> None:
    doc = {"format": 1, "installation": {"platform_domain": "voice.example"}}
    assert codec.from_document(doc) == (Table(Installation("voice.example")), [])
    table, _ = codec.from_document(doc)
    assert table is not None
    assert codec.to_document(table) == {
        "format": 1,
        "installation": {
            "allowed": [],
            "blocked": [],
            "edge_hosts": [],
            "guards": [],
            "limits": {"calls": None, "calls_per_second": None},
            "platform_domain": "voice.example",
        },
        "tenants": [],
    }


def test_canonical_bytes_are_sorted_and_utf8() -> None:
    assert codec.canonical({"b": "ä", "a": [1, None, True]}) == '{"a":[1,null,true],"b":"ä"}'.encode()


def deep(levels: int) -> object:
    doc: object = []
    for _ in range(levels):
        doc = [doc]
    return doc


HOSTILE = [
    (True, "a whole number, not true"),
    (1.0, "a whole number, not 1.0"),
    (math.nan, "a whole number, not nan"),
    (2**53, "out of range; the limit is 9007199254740991"),
    (10**5000, "a number of 16610 bits is out of range"),
    ("60", "a whole number, not '60'"),
    (None, "a whole number, not null"),
    ({}, "a whole number, not an object"),
    (deep(50_000), "a whole number, not a list"),
]


@pytest.mark.parametrize(("value", "message"), HOSTILE, ids=[message for _, message in HOSTILE])
def test_wrong_types_are_named(value: object, message: str) -> None:
    doc = document()
    doc["tenants"][0]["users"][0]["ring_seconds"] = value  # type: ignore[index]
    table, [problem] = codec.from_document(doc)
    assert table is None
    assert problem.path == "tenants[acme].users[101].ring_seconds"
    assert problem.where == ("t1", "users", "u1", "ring_seconds")
    assert message in problem.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("extension", 101), ("extension", "\ud800"), ("enabled", 1), ("aliases", "102"), ("aliases", [1]), ("limits", 3)],
)
def test_wrong_types_of_texts_switches_and_lists_are_named(name: str, value: object) -> None:
    doc = document()
    doc["tenants"][0]["users"][0][name] = value  # type: ignore[index]
    [path] = paths(doc)
    assert path.startswith("tenants[acme].users[")
    assert f"].{name}" in path


def test_all_problems_are_told_at_once() -> None:
    doc = document()
    doc["extra"] = 1
    doc["tenants"][0]["limits"] = {"calls": "many", "calls_per_second": None, "cals": 1}  # type: ignore[index]
    del doc["tenants"][0]["users"][0]["id"]  # type: ignore[index]
    doc["tenants"].append({"id": "t2"})  # type: ignore[attr-defined]
    assert sorted(paths(doc)) == [
        "",
        "tenants[1].name",
        "tenants[1].primary_domain",
        "tenants[1].slug",
        "tenants[1].suspended",
        "tenants[acme].limits",
        "tenants[acme].limits.calls",
        "tenants[acme].users[101].id",
    ]


def test_another_format_is_the_only_problem() -> None:
    for value in (2, True, "1", None, 1.0):
        table, problems = codec.from_document({"format": value, "unknown": 1})
        assert table is None
        assert [problem.path for problem in problems] == ["format"]
    assert "format" in paths({"installation": {"platform_domain": ""}})


def test_labels_that_cannot_be_shown_become_places() -> None:
    doc = document()
    doc["tenants"][0]["slug"] = "x]\n"  # type: ignore[index]
    doc["tenants"][0]["users"][0] = {"extension": ["deep"]}  # type: ignore[index]
    assert "tenants[0].users[0].id" in paths(doc)


def test_two_tenants_with_one_id_have_no_encoding() -> None:
    with pytest.raises(ValueError, match="two tenants have the id 't1'"):
        codec.encode(replace(TABLE, tenants=(ACME, ACME)))


def test_parts_are_what_their_names_say() -> None:
    manifest, parts = codec.encode(TABLE)[1:]
    name = codec.part_hash(codec.encode_part(ACME))
    changed = {**parts, name: codec.encode_part(replace(ACME, name="Other"))}
    for given_parts, what in (({}, "is missing"), (changed, "has other bytes")):
        with pytest.raises(codec.FormatError, match=what) as caught:
            codec.decode(manifest, given_parts)
        assert all(problem.is_error for problem in caught.value.problems)


def test_a_part_cannot_be_listed_for_another_tenant() -> None:
    manifest, parts = codec.encode(TABLE)[1:]
    manifest["tenants"] = {"t2": codec.part_hash(codec.encode_part(ACME))}
    with pytest.raises(codec.FormatError, match="is listed for tenant 't2' but belongs to 't1'"):
        codec.decode(manifest, parts)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"format": 2}, "format"),
        ({"installation": "x" * 64}, "installation"),
        ({"installation": None}, "installation"),
        ({"tenants": []}, "tenants"),
        ({"tenants": {"t1": "AB" * 32}}, "tenants[t1]"),
        ({"extra": 1}, ""),
    ],
)
def test_faults_of_a_manifest(change: dict[str, object], path: str) -> None:
    manifest, parts = codec.encode(TABLE)[1:]
    with pytest.raises(codec.FormatError) as caught:
        codec.decode({**manifest, **change}, parts)
    assert [problem.path for problem in caught.value.problems] == [path]
