"""Where the next REGISTER of a registration goes: to the best place of its PBX that serves."""

from __future__ import annotations

from collections.abc import Iterator

from sipd.flow import Flow, Place
from sipd.health import Health, PbxAddress
from sipd.registration import Pbx, Registration
from sipd.sending import Sender
from sipd.settings import Settings


class Places:
    """Chooses by the order of the connection, by what `health` knows, and by what failed of late."""

    def __init__(self, settings: Settings, sender: Sender, health: Health) -> None:
        self._settings = settings
        self._sender = sender
        self._health = health

    def target(self, registration: Registration, now: float) -> Flow | None:
        """Where the next REGISTER goes; first to where it stands, to be taken back, when it is to stand elsewhere.

        Sets `moving` and `goal`. None: every place was tried, or none is known.
        """
        canary = registration.pbx.flow_to(registration.canary) if registration.canary is not None else None
        registration.moving = False
        if canary is not None:
            return canary
        registration.canary = None
        goal, registration.goal = registration.goal, None
        if goal is not None and not registration.held and goal not in registration.tried:
            flow = registration.pbx.flow_to(goal)
            if flow is not None:
                return flow
        return self._best(registration, now)

    def _best(self, registration: Registration, now: float) -> Flow | None:
        flows = self._in_order(registration, now)
        here = registration.flow_held(self._settings) if registration.held else None
        if here is None or (flows and flows[0][:3] == here[:3]):
            return flows[0] if flows else None
        if here[:3] in registration.tried or self._sender.is_down(here[:3], now):
            return flows[0] if flows else here
        registration.moving = True
        registration.goal = flows[0][:3] if flows else None
        return here

    def _in_order(self, registration: Registration, now: float) -> list[Flow]:
        """Flows not tried yet, best first; a place that failed lately only when it has proved to serve again."""
        pbx, tried, held_at = registration.pbx, registration.tried, registration.held_at
        flows = [flow for flow in pbx.flows if flow[:3] not in tried]
        if len(flows) < 2:
            return flows

        def cost(flow: Flow) -> tuple[bool, bool, int]:
            place = flow[:3]
            unproved = registration.registered and place != held_at and not self._health.trusts(place)
            stays = place == held_at and not registration.stray
            return unproved, not stays, pbx.rank(place)

        return self._sender.in_order(sorted(flows, key=cost), now)


def those_at(address: PbxAddress) -> Iterator[Registration]:
    """All that stand there, or could."""
    pbxs = [using for using in address.used_by if isinstance(using, Pbx)]
    return (r for pbx in pbxs for r in pbx.registrations if not r.removing)


def better(registration: Registration, place: Place) -> bool:
    """Whether it stands at a place that is less preferred than this one."""
    rank = registration.pbx.rank
    return registration.registered and registration.stray and rank(place) < rank(registration.held_at)


def others_than(registration: Registration, place: Place) -> bool:
    """Whether its PBX has another place that it has not tried."""
    return any(flow[:3] != place and flow[:3] not in registration.tried for flow in registration.pbx.flows)
