"""docs/table.md: its example is a good table and does what the text says; every field is in it."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path

from sipd.plain import NoKey, sealed
from sipd.routing import codec, model
from sipd.routing.decision import explain, outbound_routes
from sipd.routing.lookup import compile_table
from sipd.routing.model import Table
from sipd.routing.validate import validate

TEXT = (Path(__file__).parents[3] / "docs/table.md").read_text(encoding="utf-8")


def example() -> Table:
    [found] = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    table, problems = codec.from_document(json.loads(found))
    assert problems == []
    assert table is not None
    return table


def test_the_example_has_no_problem() -> None:
    assert validate(sealed(example(), NoKey())) == []


def test_the_example_rings_the_group_in_business_hours_only() -> None:
    compiled = compile_table(example())
    asked = ("198.51.100.1", 40_000, "tls", "sip:+4930123450@acme.voice.example")
    times = [datetime.fromisoformat(f"2026-11-23T{hour}:00+01:00").timestamp() for hour in ("09", "18")]
    by_day, by_night = (explain(compiled, *asked, at, frozenset(("pbx.example",))) for at in times)
    assert by_day.group is not None
    assert (by_day.rule, by_day.group.extension) == ("number", "600")
    assert (by_night.rule, by_night.forward) == ("closed", "+491701234567")
    assert explain(compiled, *asked, times[0]).status == 403


def test_the_example_dials_abroad_with_a_fall_back() -> None:
    compiled = compile_table(example())
    routes = outbound_routes(compiled.tenants["t-acme"], "004930")
    assert [(connection.id, number) for connection, number in routes] == [("c-pbx", "+4930"), ("c-trunk", "+4930")]


def test_every_field_and_choice_is_told() -> None:
    kinds = [kind for kind in vars(model).values() if is_dataclass(kind) and kind is not Table]
    names = {f.name for kind in kinds for f in fields(kind)}
    choices = (model.TRANSPORTS, model.STRATEGIES, model.INTERNAL_CALLS, model.FORKS, model.GROUP_STRATEGIES)
    names |= {value for each in (*choices, model.CALLER_IDS) for value in each}
    assert sorted(name for name in names if f"`{name}`" not in TEXT) == []
