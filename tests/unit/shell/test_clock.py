"""The daemon's own time runs on whatever is done to the clock on the wall, and across restarts."""

from __future__ import annotations

from sipd.clock import STEP_SECONDS, Clock, Kept

NOON = 1_700_000_000.0


class Machine:
    """A machine with a clock on its wall, and the time since it was started."""

    def __init__(self) -> None:
        self.wall = NOON
        self.since_boot = 100.0
        self.boot = "first"

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds

    def start_again(self, off: float, wall: float | None = None) -> None:
        """The machine was off for so long; `wall` is what its clock says then."""
        self.wall = self.wall + off if wall is None else wall
        self.since_boot, self.boot = 5.0, "second"

    def clock(self, kept: Kept | None = None) -> Clock:
        found = Clock(lambda: self.wall, lambda: self.since_boot, lambda: self.boot)
        if kept is not None:
            found.go_on(kept)
        return found


def test_own_time_begins_as_the_wall_clock() -> None:
    clock = Machine().clock()
    assert (clock.now(), clock.shown(), clock.look()) == (NOON, NOON, 0.0)


def test_a_step_is_seen_once_and_moves_nothing_but_what_is_shown() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(10)
    machine.wall -= 3600
    assert round(clock.look()) == -3600
    assert clock.look() == 0.0
    assert (clock.now(), clock.shown()) == (NOON + 10, NOON + 10 - 3600)
    machine.wall += 7200
    assert round(clock.look()) == 7200
    assert (clock.now(), clock.shown()) == (NOON + 10, NOON + 10 + 3600)


def test_drift_is_no_step_until_it_is_large() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += STEP_SECONDS * 0.9
    assert clock.look() == 0.0
    machine.wall += STEP_SECONDS * 0.2
    assert clock.look() > STEP_SECONDS


def test_time_suspended_has_passed() -> None:
    """The machine sleeps: its steady clock counts that, as phones and PBXs do."""
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(1800)
    assert (clock.now(), clock.look()) == (NOON + 1800, 0.0)


def test_a_restart_goes_on_where_it_was_though_the_wall_clock_was_set_meanwhile() -> None:
    for step in (-86_400.0, 86_400.0):
        machine = Machine()
        kept = machine.clock().keep()
        machine.pass_time(7)
        machine.wall += step
        again = machine.clock(kept)
        assert again.now() == NOON + 7
        assert again.shown() == NOON + 7 + step


def test_restart_after_restart_goes_on() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(5):
        machine.pass_time(10)
        machine.wall -= 600
        clock = machine.clock(clock.keep())
    assert (clock.now(), clock.shown()) == (NOON + 50, NOON + 50 - 3000)


def test_after_a_start_of_the_machine_the_wall_clock_says_how_long_it_was_off() -> None:
    machine = Machine()
    kept = machine.clock().keep()
    machine.start_again(off=120)
    again = machine.clock(kept)
    assert (again.now(), again.shown()) == (NOON + 120, NOON + 120)


def test_after_a_start_of_the_machine_a_step_before_still_counts() -> None:
    """Own time stays what state was stored by; who was granted an hour is not asked to have waited ten."""
    machine = Machine()
    clock = machine.clock()
    machine.wall += 36_000
    clock.look()
    kept = clock.keep()
    machine.start_again(off=60)
    again = machine.clock(kept)
    assert (again.now(), again.shown()) == (NOON + 60, NOON + 36_060)


def test_a_clock_that_is_obviously_wrong_lets_no_time_pass() -> None:
    """Without a battery it says 1970: what was granted is kept for what was left of it, and no longer."""
    machine = Machine()
    kept = machine.clock().keep()
    machine.start_again(off=0, wall=0.0)
    again = machine.clock(kept)
    assert (again.now(), again.shown()) == (NOON, 0.0)
    machine.wall = NOON + 300  # now it has asked for the time
    assert again.look() > 0
    assert (again.now(), again.shown()) == (NOON, NOON + 300)


def test_a_machine_that_does_not_name_its_starts_is_believed_by_its_clock() -> None:
    machine = Machine()
    machine.boot = ""
    kept = machine.clock().keep()
    machine.pass_time(30)
    assert machine.clock(kept).now() == NOON + 30


def test_another_count_since_the_start_is_not_believed() -> None:
    """In a container the time since the start may be another one, though the machine is the same."""
    machine = Machine()
    kept = machine.clock().keep()
    machine.since_boot = 1.0
    machine.wall += 60
    assert machine.clock(kept).now() == NOON + 60
