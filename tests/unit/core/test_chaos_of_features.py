"""Random calls that are forwarded, hunt and ring groups, over a network that loses, doubles and reorders."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sipd.routing.model import Limits, Number, Table
from tests.unit.core.bench import table, tenant
from tests.unit.core.house import group
from tests.unit.core.talk import assert_nothing_left
from tests.unit.core.test_chaos import CALLS, NETWORKS, RUNS, Town


def winding() -> Table:
    """acme's users forward to each other, to a group, and out; 999 is the group's number."""
    acme = tenant("acme", of_connection={"internal_calls": "direct_when_possible"})
    fields: dict[str, dict[str, object]] = {
        "101": {"forward_busy": "102", "forward_no_answer": "600", "ring_seconds": 5, "limits": Limits(calls=20)},
        "102": {"fork": "serial", "serial_seconds": 4, "ring_seconds": 9, "forward_busy": "+49301"},
    }
    users = tuple(replace(user, **fields[user.extension]) for user in acme.users)  # type: ignore[arg-type]
    groups = (group("round_robin", "101", "102", member_seconds=5, forward_no_answer="102"),)
    numbers = (Number("n", "999", group="group-600"),)
    return table(replace(acme, users=users, groups=groups, numbers=numbers), tenant("globex"))


class Winding(Town):
    """The PBX calls acme only."""

    def place(self) -> None:
        chance = self.net.chance
        cancel_after = chance.choice((0.0, 0.0, 0.0, 1.0, 5.0))
        uri = f"sip:{chance.choice(('101', '102', '600', '999'))}@acme.example"
        leg = self.pbx.call(uri, f"sip:+4930{chance.randrange(10**6)}@pbx.example", cancel_after)
        if chance.random() < 0.8:
            self.net.at(0.5 + 30 * chance.random(), lambda: self.pbx.bye(leg))


@pytest.mark.parametrize(("network", "transport"), RUNS)
@pytest.mark.parametrize("seed", range(2))
def test_every_call_ends_and_nothing_is_left(seed: int, network: str, transport: str) -> None:
    town = Winding(seed, NETWORKS[network], transport)
    town.bench.load(winding())
    town.play(2 * CALLS)
    assert_nothing_left(town.bench)
    kinds = Counter((e["kind"], e["detail"]["call"]) for e in town.bench.edge.take_events() if "call" in e["detail"])
    ends = {call: count for (kind, call), count in kinds.items() if kind == "call.ended"}
    assert set(ends) == {call for kind, call in kinds if kind == "call.started"}
    assert set(ends.values()) == {1}
    assert sum(count for (kind, _), count in kinds.items() if kind == "call.forwarded") > CALLS / 20
    legs = [leg for agent in (town.pbx, *town.phones) for leg in agent.legs.values()]
    assert not [leg.call_id for leg in legs if not leg.over], "left in the call, or without an answer"
    assert not [leg.call_id for leg in legs if leg.waiting is not None], "an answer without its ACK"
