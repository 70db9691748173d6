"""Whether a node can serve calls, and why not; whether it lives at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STALLED_SECONDS = 10.0
"""A loop whose tick, due each second, is later than this is not well."""

SENTENCES: Mapping[str, str] = {
    "not-listening": "The listeners are not bound.",
    "no-table": "No table is loaded: publish one from the panel, or run sipd load.",
    "store": "State cannot be written, and is held in memory: look at the disk of the state directory.",
    "draining": "The node drains: calls in progress go on, new ones are refused.",
}
"""What each reason means and what to do; these words are also labels of `sipd_not_ready`."""


def reasons(*, listening: bool, table: bool, store: bool, draining: bool) -> list[str]:
    """Why the node is not ready, in words of `SENTENCES`; none: it is. `store`: whether state can be written."""
    bad = {"not-listening": not listening, "no-table": not table, "store": not store, "draining": draining}
    return [word for word, holds in bad.items() if holds]


def answer(status: Mapping[str, Any]) -> dict[str, Any]:
    """What `/readyz` and `sipd healthy` say, of a node's status."""
    words = list(status["not_ready"])
    return {"ready": not words, "reasons": {word: SENTENCES.get(word, word) for word in words}}


def alive(late: float) -> dict[str, Any]:
    """What `/healthz` says, of a loop whose tick is so many seconds overdue."""
    stalled = late > STALLED_SECONDS
    return {"alive": not stalled, "reasons": {"loop": f"The event loop is {late:.1f} s late."} if stalled else {}}
