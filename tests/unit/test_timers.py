"""One heap: order, cancelling, and no garbage that grows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd.timers import Timer, Timers


def note(fired: list[Any], what: object) -> Callable[[float], None]:
    return lambda now: fired.append(what)


def test_in_order_of_time_and_then_of_setting() -> None:
    timers, fired = Timers(), list[str]()
    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "z")):
        timers.set(when, note(fired, name))
    assert timers.next() == 1.0
    timers.fire(0.9)
    assert fired == []
    timers.fire(2.5)
    assert fired == ["a", "b", "c"]
    assert (timers.next(), len(timers)) == (9.0, 1)


def test_cancel() -> None:
    timers, fired = Timers(), list[float]()
    first, second = timers.set(1.0, fired.append), timers.set(2.0, fired.append)
    timers.cancel(first)
    timers.cancel(first)
    timers.cancel(None)
    assert (timers.next(), len(timers)) == (2.0, 1)
    timers.fire(5.0)
    timers.cancel(second)
    assert (fired, timers.next(), len(timers)) == ([5.0], None, 0)


def test_one_that_is_set_while_firing_waits_for_the_next_call() -> None:
    timers, fired = Timers(), list[float]()

    def again(now: float) -> None:
        fired.append(now)
        timers.set(now, again)

    timers.set(1.0, again)
    timers.fire(1.0)
    assert fired == [1.0]
    assert timers.next() == 1.0


def test_one_may_cancel_another_while_firing() -> None:
    timers, fired = Timers(), list[float]()
    later: list[Timer] = []
    timers.set(1.0, lambda now: timers.cancel(later[0]))
    later.append(timers.set(1.0, fired.append))
    timers.fire(1.0)
    assert (fired, len(timers)) == ([], 0)


def test_cancelled_ones_are_never_more_than_half() -> None:
    timers = Timers()
    handles = [timers.set(1000.0 + n, lambda now: None) for n in range(1000)]
    for n, handle in enumerate(handles[:-1]):
        timers.cancel(handle)
        assert len(timers._heap) <= 2 * (999 - n)
    assert len(timers) == 1


@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "fire"]), st.integers(0, 30))))
def test_against_a_plain_list(steps: list[tuple[str, int]]) -> None:
    timers, plain, handles = Timers(), list[tuple[int, int]](), dict[int, Timer]()
    fired: list[int] = []
    now = 0
    for seq, (step, value) in enumerate(steps):
        if step == "set":
            handles[seq] = timers.set(now + value, note(fired, seq))
            plain.append((now + value, seq))
        elif step == "cancel" and handles:
            chosen = list(handles)[value % len(handles)]
            timers.cancel(handles[chosen])
            plain = [entry for entry in plain if entry[1] != chosen]
        elif step == "fire":
            now += value
            fired.clear()
            timers.fire(now)
            assert fired == [seq for when, seq in sorted(plain) if when <= now]
            plain = [entry for entry in plain if entry[0] > now]
        assert len(timers) == len(plain)
        assert timers.next() == (min(plain)[0] if plain else None)


def test_a_callback_that_raises_costs_itself_only() -> None:
    timers, fired = Timers(), list[float]()

    def sets_and_raises(now: float) -> None:
        timers.set(now, fired.append)
        timers.set(now, raises)

    def raises(now: float) -> None:
        raise RuntimeError

    timers.set(1.0, sets_and_raises)
    timers.set(2.0, raises)
    timers.set(3.0, fired.append)
    with pytest.raises(RuntimeError):
        timers.fire(5.0)
    while timers.next() is not None:
        with suppress(RuntimeError):
            timers.fire(6.0)
    assert len(fired) == 2
    assert len(timers) == 0
