"""Session timers (RFC 4028): an end that vanished is found out, and its call does not last for ever.

The edge has the ends refresh. It asks each INVITE's receiver for a timer; the direction of a request is the same on
both legs, so "uac" and "uas" are, too, and a refresh that passes counts for both. When only one end knows of timers,
that end refreshes. When neither does, the edge asks both with OPTIONS, now and then. It never sends a re-INVITE or
UPDATE of its own: so it never touches the media.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sipd.message.build import Header
from sipd.message.errors import BadMessage
from sipd.message.grammar import number
from sipd.settings import Settings

if TYPE_CHECKING:
    from sipd.auth import Proof
    from sipd.calls import Call, Calls, Core
    from sipd.dialogs import Dialog
    from sipd.flow import Flow
    from sipd.message.message import Message
    from sipd.sending import Sending
    from sipd.timers import Timer
    from sipd.transaction.layer import ClientTransaction

TIMED = frozenset(("INVITE", "UPDATE"))
"""Session refresh requests."""
MISSES = 2
"""OPTIONS in a row that could not be sent, for want of a stream, before an end counts as gone."""
CHECKS_PER_SECOND = 50
"""Calls from before a restart whose ends are asked whether they are still in them: a BYE may have come meanwhile."""
FIRST_CHECK = 60.0
"""Seconds after a restart: a BYE that was not answered is sent again for 32, and phones behind streams connect anew."""
GRACE = 32.0
"""Seconds after a restart for a refresh that was sent meanwhile, and is sent again."""
LONGEST = 2**31 - 1
LONGEST_LEAST = 86_400
"""Seconds of a Min-SE that are heeded; a longer session would hold a vanished call for more than a day."""


class Interval(NamedTuple):
    """Session-Expires."""

    seconds: int
    refresher: str
    """"uac", "uas", or "" where it is not said."""


def interval_of(message: Message) -> Interval | None:
    """Raises BadMessage when it is malformed."""
    text = message.get("session-expires")
    if text is None:
        return None
    seconds, *params = (part.strip() for part in text.split(";"))
    pairs = {name.strip().lower(): value.strip() for name, _, value in (param.partition("=") for param in params)}
    return Interval(number(seconds, LONGEST, "Session-Expires"), pairs.get("refresher", "").lower())


def least_of(message: Message) -> int:
    """Min-SE, at most `LONGEST_LEAST`; 0 where there is none. Raises BadMessage when it is malformed."""
    text = message.get("min-se")
    return 0 if text is None else min(LONGEST_LEAST, number(text.partition(";")[0].strip(), LONGEST, "Min-SE"))


def knows_timers(message: Message) -> bool:
    """Whether its sender does."""
    return any(tag.lower() == "timer" for tag in message.split("supported") + message.split("require"))


def too_small(request: Message, settings: Settings) -> list[Header] | None:
    """What to say with 422 to a request whose interval is too small (RFC 4028 8.1, 9); None: it is not.

    A sender that knows no timers cannot do better: what a proxy asked for on its behalf is raised instead.
    """
    asked = interval_of(request) if request.method in TIMED else None
    if asked is None or asked.seconds >= settings.session_min or not knows_timers(request):
        return None
    return [("Min-SE", str(settings.session_min))]


def offered(request: Message, settings: Settings, least: int, default: int) -> int:
    """Seconds that the other leg is asked for: what the request asks for, within bounds, else `default`; 0: none."""
    return _bounded(interval_of(request), max(least, least_of(request)), settings, default)


def _bounded(asked: Interval | None, least: int, settings: Settings, default: int) -> int:
    if asked is None and not default:
        return 0
    wanted = min(asked.seconds if asked is not None else default, settings.session_expires)
    return max(least, settings.session_min, wanted)


def offer(request: Message, settings: Settings, least: int, default: int) -> list[Header]:
    """The headers of this kind that a request has on the other leg.

    A `Require: timer` is ours to fulfil, so it stays on its leg.
    """
    headers: list[Header] = []
    asked, least = interval_of(request), max(least, least_of(request))
    seconds = _bounded(asked, least, settings, default)
    if seconds:
        role = f";refresher={asked.refresher}" if asked is not None and asked.refresher in ("uac", "uas") else ""
        headers += [("Session-Expires", f"{seconds}{role}"), ("Min-SE", str(max(least, settings.session_min)))]
    elif request.has("min-se"):
        headers.append(("Min-SE", str(least)))
    if request.has("require"):
        headers += _required(tag for tag in request.split("require") if tag.lower() != "timer")
    return headers


def accept(request: Message, response: Message, seconds: int) -> tuple[list[Header], Interval | None]:
    """The headers of this kind that a 2xx has on the leg of the request, and what was agreed.

    `seconds` were offered. A sender that knows timers refreshes where the other end does not know them (RFC 4028 8.2).
    """
    try:
        granted = interval_of(response)
    except BadMessage:
        granted = None
    tags = [tag for tag in response.split("require") if tag.lower() != "timer"]
    knows = knows_timers(request)
    if granted is None and not (knows and seconds):
        return _required(tags), None
    refresher = granted.refresher if granted is not None else "uac"
    if refresher not in ("uac", "uas"):
        refresher = "uac"
    if not knows:
        refresher = "uas"
    elif refresher == "uac":
        tags.append("timer")
    agreed = Interval(granted.seconds if granted is not None else seconds, refresher)
    return [("Session-Expires", f"{agreed.seconds};refresher={refresher}"), *_required(tags)], agreed


def _required(tags: Iterable[str]) -> list[Header]:
    text = ", ".join(tags)
    return [("Require", text)] if text else []


class Watch:
    """Over one call that was answered."""

    __slots__ = ("agreed", "check", "misses", "timer")

    def __init__(self) -> None:
        self.agreed: Interval | None = None
        self.timer: Timer | None = None
        self.check: Timer | None = None
        """Of a call from before a restart: when its ends are asked about it."""
        self.misses: dict[Dialog, int] = {}


class Probe:
    """An OPTIONS of ours inside a dialog."""

    __slots__ = ("leg", "proof")

    def __init__(self, leg: Dialog, proof: Proof) -> None:
        self.leg = leg
        self.proof = proof


class Sessions:
    """The watches over all calls."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls
        self._watches: dict[Call, Watch] = {}
        self._check_at = 0.0

    def offer(self, call: Call, request: Message, least: int = 0) -> list[Header]:
        """For a request on its way to the other leg."""
        settings = self._core.settings
        return offer(request, settings, least, self._default(call, request))

    def offered(self, call: Call, request: Message, least: int = 0) -> int:
        return offered(request, self._core.settings, least, self._default(call, request))

    def _default(self, call: Call, request: Message) -> int:
        """What is asked for where the request asks for nothing: nothing new in a call that has no timer."""
        watch = self._watches.get(call)
        if watch is None:
            return self._core.settings.session_expires if request is call.request else 0
        return watch.agreed.seconds if watch.agreed is not None and request.method == "INVITE" else 0

    def answered(self, call: Call, request: Message, response: Message, now: float, least: int = 0) -> list[Header]:
        """For a 2xx on its way back. In a call that is answered, the time begins anew."""
        headers, agreed = accept(request, response, self.offered(call, request, least))
        if call.pair is not None and not call.ended:
            self._agree(call, agreed, now)
        return headers

    def _agree(self, call: Call, agreed: Interval | None, now: float) -> None:
        watch = self._watches.setdefault(call, Watch())
        watch.agreed = agreed
        self._core.timers.cancel(watch.timer)
        if agreed is not None:
            watch.timer = self._core.timers.set(now + agreed.seconds, lambda at: self._expired(call, at))
        else:
            self._wait_to_probe(call, watch, now)

    def stop(self, call: Call) -> None:
        """The call is over."""
        watch = self._watches.pop(call, None)
        if watch is not None:
            self._core.timers.cancel(watch.timer)
            self._core.timers.cancel(watch.check)

    def state(self, call: Call) -> tuple[Interval | None, float | None]:
        """What was agreed, and when the session expires, or its ends are asked next."""
        watch = self._watches.get(call)
        if watch is None or watch.timer is None:
            return None, None
        return watch.agreed, watch.timer.when

    def resume(self, call: Call, agreed: Interval | None, at: float, now: float) -> None:
        """Go on with a call from before a restart. Its ends are asked soon, one call after the other."""
        watch = self._watches[call] = Watch()
        watch.agreed = agreed
        timers = self._core.timers
        if agreed is not None:
            watch.timer = timers.set(max(at, now + GRACE), lambda then: self._expired(call, then))
        else:
            watch.timer = timers.set(max(at, now + GRACE), lambda then: self._probe(call, watch, then))
        self._check_at = max(self._check_at + 1 / CHECKS_PER_SECOND, now + FIRST_CHECK)
        watch.check = timers.set(self._check_at, lambda then: self._ask_both(call, then))

    def _expired(self, call: Call, now: float) -> None:
        """RFC 4028 10: nobody refreshed it."""
        self._calls.hang_up(call, 408, "Session Expired", now)

    # -- asking ends that know no timers

    def _wait_to_probe(self, call: Call, watch: Watch, now: float) -> None:
        at = now + self._core.settings.session_probe
        watch.timer = self._core.timers.set(at, lambda then: self._probe(call, watch, then))

    def _probe(self, call: Call, watch: Watch, now: float) -> None:
        """OPTIONS in the dialogs of both legs (RFC 3261 11.2): any answer but 481 and 408 says that it is known."""
        self._wait_to_probe(call, watch, now)
        self._ask_both(call, now)

    def _ask_both(self, call: Call, now: float) -> None:
        if call.pair is None:
            return
        for leg in (call.pair, call.pair.other):
            self._ask(Probe(leg, self._calls.proof(leg.account)), [], now)

    def _ask(self, probe: Probe, credentials: list[Header], now: float) -> None:
        leg, wire = probe.leg, self._core.wire
        self._calls.reach(leg, now)
        seq = self._calls.next_seq(leg)

        def over(flow: Flow, branch: str) -> bytes:
            return leg.request(wire, "OPTIONS", branch, seq, [*credentials], flow=flow)

        self._core.sender.request("OPTIONS", leg.flows, over, (self, probe), now, pinned=leg.pinned)

    def on_response(self, tx: ClientTransaction, probe: Probe, response: Message, now: float) -> None:
        if response.status < 200:
            return
        watch = self._watches.get(probe.leg.call)
        if response.status in (401, 407):
            found = probe.proof.headers(response, "OPTIONS", probe.leg.request_uri, self._core.wire.token())
            if found is not None and watch is not None:
                self._ask(probe, [*found], now)
                return
        if response.status in (408, 481):
            self._calls.hang_up(probe.leg.call, response.status, "Vanished", now)
        elif watch is not None:
            watch.misses.pop(probe.leg, None)

    def on_failure(self, sending: Sending, probe: Probe, reason: str, now: float) -> None:
        """Silence is the end (RFC 3261 12.2.1.2); a stream that is gone may be replaced, for a while."""
        watch = self._watches.get(probe.leg.call)
        if watch is None:
            return
        watch.misses[probe.leg] = watch.misses.get(probe.leg, 0) + 1
        if reason == "timeout" or watch.misses[probe.leg] >= MISSES:
            self._calls.hang_up(probe.leg.call, 408, "Vanished", now)
