"""What there is in the core now, counted in small steps, so that calls do not wait for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from sipd.calls import Calls
from sipd.registrar import Registrar
from sipd.tally import Tally
from sipd.upstream import Upstream

STEP = 250
"""Registrations, users with bindings, or calls that are looked at in one step."""


class Present:
    """What a tenant has now."""

    __slots__ = ("bindings", "calls", "registered")

    def __init__(self) -> None:
        self.calls = 0
        self.bindings = 0
        self.registered = 0
        """Upstream registrations that stand."""


class Census:
    """The counts so far."""

    __slots__ = ("_tally", "bindings", "calls", "others", "tenants", "upstream")

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.calls: Counter[tuple[str, str]] = Counter()
        """By direction and state, which is ringing or answered."""
        self.bindings: Counter[str] = Counter()
        """By transport."""
        self.upstream: Counter[str] = Counter()
        """By state."""
        self.tenants: dict[str, Present] = {tenant: Present() for tenant in tally.tenants}
        """By id: those that have numbers of their own in `Tally`."""
        self.others = Present()

    def of(self, tenant: str) -> Present:
        """Where to count what is this tenant's."""
        if tenant not in self.tenants and self._tally.has(tenant):
            self.tenants[tenant] = Present()
        return self.tenants.get(tenant, self.others)

    def take(
        self, registrar: Registrar, upstream: Upstream, relayed: Iterable[tuple[str, str]], calls: Calls
    ) -> Iterator[None]:
        """Count; after each step whoever asked may do something else, also change what is counted."""
        seen = 0
        for seen, call in enumerate(list(calls.calls.values()), 1):
            self.calls[call.direction, "answered" if call.pair else "ringing"] += 1
            self.of(call.index.tenant.id).calls += 1
            if seen % STEP == 0:
                yield
        for seen, owner in enumerate(registrar.owners(), 1):
            for binding in registrar.held(owner):
                self.bindings[binding.flow.transport] += 1
                self.of(binding.tenant).bindings += 1
            if seen % STEP == 0:
                yield
        for seen, registration in enumerate(upstream.snapshot(), 1):
            state = "removing" if registration.removing else registration.state
            self.upstream[state] += 1
            if state == "registered":
                self.of(registration.wanted.account.tenant).registered += 1
            if seen % STEP == 0:
                yield
        for seen, (tenant, state) in enumerate(relayed, 1):
            self.upstream[state] += 1
            if state == "registered":
                self.of(tenant).registered += 1
            if seen % STEP == 0:
                yield
