"""Call features with real phones: three baresips of one tenant, over UDP and TCP.

What sipp plays by script, these do as phones do: they ring, refuse, and stop ringing when somebody else has answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sipd.routing.model import Group, Member, Schedule, Table
from tests.integration.node import Node, wait_for
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import PBX_HOST, faults
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD, table, tenant

pytestmark = [pytest.mark.needs("baresip"), pytest.mark.parametrize("transport", ["udp", "tcp"])]
USERS = ("101", "102", "103")
NEVER = Schedule("never", "Never open", "UTC")


def routing(of_102: dict[str, Any] | None = None, group: str = "") -> Table:
    """acme; `of_102`: fields of that user; `group`: how 600 rings 102 and 103."""
    link = {"host": PBX_HOST, "sources": (PBX_HOST,), "internal_calls": "always_direct"}
    acme = tenant("acme", extensions=USERS, of_connection=link)
    users = tuple(replace(user, **(of_102 or {})) if user.extension == "102" else user for user in acme.users)
    members = tuple(Member(place, user.id) for place, user in enumerate(users[1:]))
    groups = (Group("sales", "600", "Sales", True, group, members, member_seconds=5),) if group else ()
    made = table(replace(acme, users=users, groups=groups, schedules=(NEVER,)))
    return replace(made, installation=replace(made.installation, edge_hosts=("127.0.0.1",)))


@contextlib.contextmanager
def phones(node: Node, folder: Path, transport: str, made: Table, **answers: str) -> Iterator[list[Baresip]]:
    """101, 102 and 103, registered; `answers`: answer modes, manual if not given. At the end there is no fault."""
    node.load(made)
    edge = Hop(transport, "127.0.0.1", node.port)
    with contextlib.ExitStack() as stack:
        made_phones = [
            stack.enter_context(
                Baresip(folder / user, user, "acme.example", PASSWORD, edge, answers.get(f"of_{user}", "manual"))
            )
            for user in USERS
        ]
        wait_for(lambda: len(node.bindings()) == len(USERS))
        yield made_phones
    assert faults(node) == 0


def ended(node: Node) -> dict[str, Any]:
    """The only record, once it is there."""
    wait_for(lambda: node.events("call.ended"))
    (record,) = node.events("call.ended")
    detail: dict[str, Any] = record["detail"]
    return detail


@pytest.mark.parametrize(
    "fields",
    [
        {"forward_always": "103"},
        {"do_not_disturb": True, "forward_busy": "103"},
        {"forward_no_answer": "103", "ring_seconds": 5},
        {"schedule": "never", "forward_closed": "103"},
    ],
    ids=["always", "do-not-disturb", "no-answer", "closed"],
)
def test_a_forward(node: Node, tmp_path: Path, transport: str, fields: dict[str, Any]) -> None:
    with phones(node, tmp_path, transport, routing(fields), of_103="auto") as (one, two, three):
        one.do("dial", "sip:102@acme.example")
        three.wait("CALL_ESTABLISHED")
        one.wait("CALL_ESTABLISHED")
        if "ring_seconds" in fields:
            two.wait("CALL_CLOSED")
        else:
            assert not [event for event in two.events if event.get("type") == "CALL_INCOMING"]
        one.do("hangup")
        record = ended(node)
    assert (record["code"], record["rang"]) == (200, ["103"])


def test_a_refusal_by_hand_is_busy(node: Node, tmp_path: Path, transport: str) -> None:
    with phones(node, tmp_path, transport, routing({"forward_busy": "103"}), of_103="auto") as (one, two, three):
        one.do("dial", "sip:102@acme.example")
        two.wait("CALL_INCOMING")
        two.do("hangup")
        three.wait("CALL_ESTABLISHED")
        three.do("hangup")
        assert ended(node)["by"] == "callee"


@pytest.mark.parametrize("strategy", ["all", "in_turn"])
def test_a_ring_group(node: Node, tmp_path: Path, transport: str, strategy: str) -> None:
    with phones(node, tmp_path, transport, routing(group=strategy)) as (one, two, three):
        one.do("dial", "sip:600@acme.example")
        two.wait("CALL_INCOMING")
        three.wait("CALL_INCOMING")
        three.do("accept")
        one.wait("CALL_ESTABLISHED")
        two.wait("CALL_CLOSED")
        one.do("hangup")
        assert ended(node)["group"] == "600"
