"""Hunting: where a call goes, to a user's phones, a ring group, after a forward, or out through connections.

docs/calls.md says what each rule does, in words. A call goes from one `Round` to the next until one is answered;
`Calls` does what a round takes on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sipd import callerid
from sipd.auth import account_of, at_pbx
from sipd.calls import Branch, Call, Calls, Core, Final
from sipd.dialogs import Dialog, lines_to_pass, target_of
from sipd.flow import Flow, may_go
from sipd.history import (
    BUSY,
    CLOSED,
    DEFLECTED,
    DO_NOT_DISTURB,
    MAX_DIVERSIONS,
    NO_ANSWER,
    TOLD,
    UNCONDITIONAL,
    UNREACHABLE,
    Forward,
    Why,
    diversion_headers,
    diversions_before,
    history_headers,
    values,
)
from sipd.limits import LimitReached, Scope
from sipd.message import build
from sipd.message.address import Address
from sipd.message.build import Header
from sipd.message.errors import BadMessage, LocalError
from sipd.message.message import Message
from sipd.message.uri import Uri, called
from sipd.registrar import Binding
from sipd.relayed import INSIDE, dial, line_of
from sipd.replacing import find_replaced
from sipd.rounds import BUSY as BUSY_ANSWERS
from sipd.rounds import (
    FAILED_THERE,
    NOT_THERE,
    Phone,
    Round,
    Route,
    Step,
    Turns,
    best,
    most_preferred,
    steps_of_user,
)
from sipd.routing.decision import Decision, Dialled, Station, decide_dialled, decide_outbound
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import MAX_USER_PART, Connection, Group, Limits, Number, User
from sipd.tollguard import TollGuard
from sipd.transaction.layer import ServerTransaction
from sipd.wayout import contact_of

FORWARDS_AT_ONCE = Limits(calls=10)
"""Calls of one caller that one extension or number forwards out and that are not answered yet. More is a loop through
a PBX that hides it: each turn is a new call, with the same caller from the second turn on."""
LIFE_SECONDS = 6.0
"""For a PBX to show a sign of life when there is a fall-back connection."""
GONE = "Temporarily Unavailable"
NOWHERE_ELSE: Mapping[Flow, Binding] = MappingProxyType({})


class Hunting:
    """Decides where each call goes."""

    def __init__(self, core: Core, calls: Calls, tolls: TollGuard) -> None:
        self._core = core
        self._calls = calls
        self._tolls = tolls
        self._turns = Turns()
        calls.hunting = self

    # -- beginning

    def from_pbx(self, tx: ServerTransaction, decision: Decision, now: float) -> None:
        """A call that the decision order let in."""
        if decision.tenant is None:
            raise LocalError("accepted without a tenant")
        call = self._calls.begin(tx, decision.tenant, "in", now)
        call.connection = decision.connection
        call.asked = called(Uri.parse(tx.request.uri)).user or ""
        if self._loops(call, now) or self._replace(call, now):
            return
        if not self._take(call, decision.connection, decision.user, now):
            return
        if decision.user is not None:
            self._ring(call, decision.user, now)
        elif decision.group is not None:
            self._ring_group(call, decision.group, now)
        else:
            self._follow(call, decision.diverted_by, decision.forward, _why(decision.rule), now)

    def begins(self, request: Message) -> bool:
        """Whether an INVITE outside a dialog is for a new call; with Replaces, and when it was challenged by the PBX,
        it goes on with one that there is."""
        index = self._core.table().tenant_of(request.from_.uri.host)
        return not request.has("replaces") and not (index is not None and self._calls.awaits(request, index))

    def from_phone(self, tx: ServerTransaction, index: TenantIndex, user: User, uri: Uri, now: float) -> None:
        """A call that an authenticated user makes."""
        if self._calls.resume(tx, index, user, now):
            return
        call = self._calls.begin(tx, index, "out", now)
        call.caller = user
        call.asked = uri.user or ""
        call.payers = (user,)
        if line_of(index, user) is None and self._replace(call, now):
            return
        here = self._is_here(index, uri.host)
        dialled = self._dialled(call, call.asked, now, here=here)
        foreign = None if here else uri
        tx.rule = dialled.rule
        self._core.events.step(call.id, "decision", f"rule {dialled.rule}")
        if dialled.connection is None:
            call.direction = "internal"
        through = self._through_pbx(call, dialled, now)
        if not self._take(call, through or dialled.connection, user, now):
            return
        if through is not None and dialled.user is not None:
            self._call_out(call, [(through, dialled.user.extension)], now, inside=True)
        else:
            self._to(call, dialled, now, foreign)

    def _dialled(self, call: Call, number: str, now: float, *, here: bool = True) -> Dialled:
        """Where a number leads; not `here`: of another domain, also another tenant's, which is like the public's."""
        line = line_of(call.index, call.caller)
        if line is not None:
            return dial(call.index, line, number)
        at = self._core.events.wall(now)
        return decide_dialled(call.index, number, at) if here else decide_outbound(call.index, number)

    def _is_here(self, index: TenantIndex, host: str) -> bool:
        """Whether a host stands for the tenant: its domains, the edge itself, its PBXs."""
        return self._core.table().stands_for(index, host) or index.has_pbx_at(host)

    def _through_pbx(self, call: Call, dialled: Dialled, now: float) -> Connection | None:
        """The connection whose PBX gets this call between users; None: it is none, or goes directly."""
        connection = call.index.connections.get(call.index.tenant.default_connection)
        if dialled.user is None or connection is None or connection.internal_calls == "always_direct":
            return None
        here = bool(self._bindings(call, dialled.user.id, now))
        return None if connection.internal_calls == "direct_when_possible" and here else connection

    def _bindings(self, call: Call, user_id: str, now: float) -> list[Binding]:
        """The phones of a user that may get this call."""
        bindings = self._core.registrar.bindings((call.index.tenant.id, user_id), now)
        return [binding for binding in bindings if may_go(call.request.uri, binding.flow)]

    def _take(self, call: Call, connection: Connection | None, user: User | None, now: float) -> bool:
        """Count the call against what it uses whole its life; what it rings or goes out through is counted then."""
        tenant = call.index.tenant
        source = call.tx.source
        self._core.events.add(
            now, "call.started", tenant=tenant.id, connection=connection.id if connection else "",
            user=user.id if user else "", call=call.id, **{"from": call.from_text}, to=call.to_text,
            direction=call.direction, source=f"{source.transport}:{source.host}:{source.port}",
        )  # fmt: skip
        scopes: list[tuple[Scope, Limits]] = [
            (("installation", "", ""), self._core.table().installation.limits),
            (_scope(call, "tenant"), tenant.limits),
        ]
        if call.connection is not None:
            scopes.append((_scope(call, "connection", call.connection.id), call.connection.limits))
        if call.caller is not None and not call.replaces:  # else it takes over another call of the user's
            scopes.append((_scope(call, "user", call.caller.id), call.caller.limits))
        limit = self._hold(call, scopes, now)
        if limit is not None:
            final = _limited(limit)
            self._core.events.step(call.id, final.rule, "the limit is reached", passed=False)
            self._calls.refuse(call, final.status, final.reason, now, [final.headers], rule=final.rule)
        return limit is None

    def _hold(self, call: Call, scopes: list[tuple[Scope, Limits]], now: float) -> LimitReached | None:
        """Count the call in all these, or in none."""
        limit = self._core.limits.take(scopes, now)
        if limit is None:
            call.scopes += [scope for scope, _ in scopes]
        return limit

    def _release(self, call: Call, scopes: Iterable[Scope]) -> None:
        for scope in scopes:
            if scope in call.scopes:
                call.scopes.remove(scope)
                self._core.limits.give_back([scope])

    def _loops(self, call: Call, now: float) -> bool:
        """A PBX sends to the same place what came from there by forwards: refused (RFC 3261 16.3 step 4).

        That our own INVITE comes back for another user is no loop, but how a PBX connects the two.
        """
        ancestor = call.parent
        while ancestor is not None and (ancestor.caller is not None or ancestor.place != call.place):
            ancestor = ancestor.parent
        if ancestor is not None and self._take(call, call.connection, None, now):
            self._calls.refuse(call, 482, "Loop Detected", now, rule="loop")
        return ancestor is not None

    # -- in the place of another call

    def _replace(self, call: Call, now: float) -> bool:
        """An INVITE with Replaces goes to the end that has the dialog, however it is addressed (RFC 3891).

        False when it names no call of the tenant: from a phone it may be one that the PBX knows.
        """
        replaced = find_replaced(call.request, call.index.tenant.id, self._calls.find_named)
        user, leg, status = call.caller, replaced.leg, replaced.status
        if not replaced.names and (user is not None or not call.request.has("replaces")):
            return False
        call.replaces = True
        connection = call.connection if user is None else None
        if leg is not None and user is not None:
            connection = self._calls.connection_of(leg, call.index)
        if leg is None or (not leg.pinned and (user is None or connection is None)):
            status = status or 481
        if leg is not None and leg.pinned and user is not None:
            call.direction = "internal"
        if not self._take(call, connection, user, now):
            return True
        if status or leg is None:
            self._calls.refuse(call, status, build.REASONS[status], now, rule="replaces")
        elif leg.pinned:
            self._ring_leg(call, leg, now)
        elif connection is not None:
            self._call_out(call, [(connection, call.asked)], now)
        return True

    def _ring_leg(self, call: Call, leg: Dialog, now: float) -> None:
        """Ring the phone at the other end of a leg, and no other."""
        callee = leg.call.caller if leg.branch is None else leg.branch.user
        round_ = call.round = Round(call, [])
        seconds = callee.ring_seconds if callee is not None else self._core.settings.caller_timeout
        round_.ring_timer = self._core.timers.set(now + seconds, lambda at: self._rang_out(round_, at))
        self._ring_at(round_, callee, leg.target, leg.flow, Address.parse(leg.remote).untagged(), now)

    # -- where it goes

    def _to(self, call: Call, dialled: Dialled, now: float, foreign: Uri | None = None) -> None:
        """Wherever a number leads."""
        if dialled.user is not None:
            self._ring(call, dialled.user, now)
        elif dialled.group is not None:
            self._ring_group(call, dialled.group, now)
        elif dialled.forward:
            self._follow(call, dialled.diverted_by, dialled.forward, _why(dialled.rule), now)
        elif dialled.connection is not None:
            connections = [dialled.connection, *([dialled.fallback] if dialled.fallback is not None else [])]
            numbers = [(connection, dialled.number) for connection in connections]
            self._call_out(call, numbers, now, foreign, inside=dialled.rule == INSIDE)
        elif dialled.status == 480 or call.forwards:
            rule = dialled.rule if dialled.status == 480 else "forward-nowhere"
            self._calls.refuse(call, 480, GONE, now, rule=rule)
        else:
            self._calls.refuse(call, 404, "Not Found", now, rule=dialled.rule)

    def _ring(self, call: Call, user: User, now: float) -> None:
        """Ring the phones of a user, or follow the user's rule."""
        if self._seen(call, ("user", user.id), now):
            return
        if user.forward_always:
            self._follow(call, user, user.forward_always, UNCONDITIONAL, now)
            return
        if user.do_not_disturb:
            self._busy(call, user, DO_NOT_DISTURB, Final(486, "Do Not Disturb", rule="do-not-disturb"), now)
            return
        bindings = self._bindings(call, user.id, now)
        if not bindings:
            if user.forward_unreachable:
                self._follow(call, user, user.forward_unreachable, UNREACHABLE, now)
            else:
                self._calls.refuse(call, 480, GONE, now, rule="no-binding")
            return
        scope = _scope(call, "user", user.id)
        limit = self._hold(call, [(scope, user.limits)], now)
        if limit is not None:
            self._busy(call, user, BUSY, _limited(limit), now)
            return
        self._core.events.step(call.id, "ring", f"phones of user {user.extension}: {len(bindings)}, {user.fork}")
        round_ = Round(call, steps_of_user(user, bindings), user=user, step_seconds=_serial(user))
        round_.held[user.id] = scope
        self._begin_round(round_, user.ring_seconds, now)

    def _busy(self, call: Call, user: User, why: Why, final: Final, now: float) -> None:
        """A user who takes no call now: `forward_busy`, or the answer."""
        if user.forward_busy and final.status == 486:
            self._follow(call, user, user.forward_busy, why, now)
        else:
            self._calls.refuse(call, final.status, final.reason, now, [final.headers], rule=final.rule)

    def _ring_group(self, call: Call, group: Group, now: float) -> None:
        """Ring the members of a group who can be rung; their own forwards do not apply."""
        if self._seen(call, ("group", group.id), now):
            return
        call.group = group
        if call.caller is None:
            call.payers = call.index.members[group.id]
        members = [member for member in call.index.members[group.id] if member is not call.caller]
        there = [member for member in members if self._bindings(call, member.id, now)]
        able = [member for member in there if not member.do_not_disturb]
        if group.strategy == "round_robin":
            able = self._turns.begin((call.index.tenant.id, group.id), call.index.members[group.id], able)
        in_all = f"{len(able)} of {len(members)} members can be rung, {group.strategy}"
        self._core.events.step(call.id, "group", f"group {group.extension}: {in_all}")
        at_once = group.strategy == "all"
        steps: list[Step] = [able] if at_once else [[member] for member in able]
        seconds = 0.0 if at_once else float(group.member_seconds)
        round_ = Round(call, steps, group=group, step_seconds=seconds)
        if there and not able:
            round_.finals.append(Final(486, "Busy Here", rule="group-busy"))
        elif not there:
            round_.finals.append(Final(480, GONE, rule="group-no-phone"))
        self._begin_round(round_, group.ring_seconds, now)

    def _seen(self, call: Call, station: tuple[str, str], now: float) -> bool:
        """Whether a forward led back to where the call was; then it ends here."""
        if station in call.visited:
            self._calls.refuse(call, 480, "Forward Loop", now, rule="forward-loop")
            return True
        call.visited.add(station)
        return False

    def _follow(self, call: Call, by: Station | None, target: str, why: Why, now: float) -> None:
        """Forward the call: `by` whom, if by somebody of the tenant, to what is dialled instead."""
        before = 0 if call.caller is not None else diversions_before(call.request)
        count = len(call.forwards) + 1
        if count > self._core.settings.max_forward_hops or count + before > MAX_DIVERSIONS:
            self._calls.refuse(call, 480, "Too Many Forwards", now, rule="forward-loop")
            return
        if isinstance(by, User):
            call.payers = (by,)
        part = "" if by is None else by.number if isinstance(by, Number) else by.extension
        call.forwards.append(Forward(part, why, target))
        self._core.events.step(call.id, "forward", f"{part or 'the call'} forwards to {target}: {why.reason}")
        call.callee = call.group = None
        self._core.events.add(
            now, "call.forwarded", tenant=call.index.tenant.id, user=by.id if isinstance(by, User) else "",
            call=call.id, by=part, to=target, reason=why.reason,
        )  # fmt: skip
        self._calls.tell_forwarded(call, now)
        self._to(call, self._dialled(call, target, now), now)

    def _call_out(
        self, call: Call, numbers: Sequence[tuple[Connection, str]], now: float, foreign: Uri | None = None,
        *, inside: bool = False,
    ) -> None:  # fmt: skip
        """Through the first connection that takes it, as somebody whom its PBX knows; `inside`: to another user."""
        routes = []
        for connection, number in numbers:
            accounts = [(user, account_of(call.index, user, connection)) for user in call.payers]
            known = [(user, account) for user, account in accounts if account is not None]
            able = [(user, account) for user, account in known if not account.relayed or user is call.caller]
            if able:
                routes.append(Route(connection, number, *able[0], foreign))
            elif connection.strategy == "none":
                routes.append(Route(connection, number, call.payers[0] if call.payers else None, None, foreign))
        if not routes:
            self._calls.refuse(call, 403, "No Account At The PBX", now, rule="no-account")
            return
        if not inside and self._costs_too_much(call, routes, now):
            return
        names = ", then ".join(route.connection.name for route in routes)
        self._core.events.step(call.id, "connection", f"out through {names}")
        self._begin_round(Round(call, [[route] for route in routes], outbound=True), 0, now)

    def _costs_too_much(self, call: Call, routes: Sequence[Route], now: float) -> bool:
        """Whether a guard against toll fraud stands against the call: it is refused then. Who pays is counted, which
        for a forwarded call is who forwards; what is counted is the number as it was dialled, and as it goes out."""
        dialled = call.forwards[-1].target if call.forwards else call.asked
        payer = routes[0].user.id if routes[0].user is not None else ""
        numbers = (dialled, *(route.number for route in routes))
        stopped = self._tolls.take(self._core.table(), call.index, payer, numbers, now)
        if stopped is None:
            return False
        guard, calls, closed = stopped
        self._core.events.step(call.id, "toll-guard", f"the guard for {guard.prefix} stands against it", passed=False)
        self._core.events.add(
            now, "toll.stopped", tenant=call.index.tenant.id, user=payer, connection=routes[0].connection.id,
            rule="toll-guard", call=call.id, prefix=guard.prefix, count=calls, limit=guard.calls_per_hour,
            reason="closed" if closed else "calls per hour",
        )  # fmt: skip
        self._calls.refuse(call, 403, "Not Allowed By A Guard", now, rule="toll-guard")
        return True

    # -- rounds

    def _begin_round(self, round_: Round, seconds: float, now: float) -> None:
        """`seconds` until the round ends without answer; 0: it has no such end."""
        round_.call.round = round_
        if seconds:
            round_.ring_timer = self._core.timers.set(now + seconds, lambda at: self._rang_out(round_, at))
        self._go_on(round_, now)

    def _go_on(self, round_: Round, now: float) -> None:
        """Begin the next step when nothing of the last one is under way; after the last, settle."""
        call = round_.call
        if round_.starting:
            return
        round_.starting = True
        while round_.steps and not round_.active and call.round is round_ and not call.ended:
            self._begin_step(round_, round_.steps.popleft(), now)
        round_.starting = False
        if not round_.active and call.round is round_ and not call.ended and call.pair is None:
            self._settle(round_, now)

    def _begin_step(self, round_: Round, step: Step, now: float) -> None:
        self._core.timers.cancel(round_.step_timer)
        if round_.step_seconds:
            at = now + round_.step_seconds
            round_.step_timer = self._core.timers.set(at, lambda then: self._step_over(round_, then))
        phones = [phone for place in step for phone in self._phones(round_, place, now)]
        round_.no_answer = round_.no_answer and not phones
        for phone in most_preferred(phones):
            self._ring_phone(round_, phone, now)
        for place in step:
            if isinstance(place, Route):
                self._take_route(round_, place, now)

    def _phones(self, round_: Round, place: Phone | User | Route, now: float) -> list[Phone]:
        """The phones of a place; of a member none when the member's limit stands against it."""
        if isinstance(place, Route):
            return []
        user_id = place.user.id if isinstance(place, Phone) else place.id
        bindings = self._bindings(round_.call, user_id, now)
        if isinstance(place, Phone):  # as it is registered now: a phone may have gone or moved while others rang
            return [Phone(place.user, binding) for binding in bindings if binding.key == place.binding.key]
        scope = _scope(round_.call, "user", place.id)
        limit = self._hold(round_.call, [(scope, place.limits)], now) if bindings else None
        if limit is not None:
            round_.finals.append(Final(486, "Busy Here", rule="group-busy"))
            self._core.events.count(f"passed-over.limit-{limit.rule}")
            return []
        if bindings:
            round_.held[place.id] = scope
        return [Phone(place, binding) for binding in bindings]

    def _step_over(self, round_: Round, now: float) -> None:
        """Nobody answered this step in time: the next one, if there is time for it."""
        if self._stop_ringing(round_, now):
            self._go_on(round_, now)

    def _rang_out(self, round_: Round, now: float) -> None:
        """Nobody answered in time: the phones stop ringing, and the rule for that comes."""
        round_.steps.clear()
        if self._stop_ringing(round_, now):
            self._go_on(round_, now)

    def _stop_ringing(self, round_: Round, now: float) -> bool:
        """Whether there was something to stop."""
        call = round_.call
        if call.round is not round_ or call.pair is not None or call.ended:
            return False
        round_.no_answer = True
        round_.finals.append(Final(480, "No Answer", rule="no-answer"))
        self._calls.cancel_all(call, now)
        self._release(call, round_.held.values())
        round_.held.clear()
        return True

    def failed(self, branch: Branch, final: Final, now: float) -> None:
        """A branch is over without an answer."""
        self._release(branch.call, branch.scopes)
        branch.scopes.clear()
        if branch.round is not None:
            self._place_failed(branch.round, branch, final, now)

    def _place_failed(self, round_: Round, branch: Branch | None, final: Final, now: float) -> None:
        call = round_.call
        if call.round is not round_ or call.pair is not None or call.ended:
            return
        round_.finals.append(final)
        round_.no_answer = False
        if round_.outbound:
            rang_out = branch is not None and branch.rang and final.rule == "timeout"
            if rang_out or not (final.status == 408 or final.status in FAILED_THERE):
                round_.steps.clear()
        elif final.status >= 600 or (final.redirect and round_.user is not None):  # RFC 3261 16.7 step 5
            self._speaks_for_all(round_, branch, now)
        user = branch.user if branch is not None else None
        if user is not None and not round_.outbound and not round_.rings(user) and round_.group is not None:
            held = round_.held.pop(user.id, None)
            self._release(call, [held] if held is not None else [])
        self._go_on(round_, now)

    def _speaks_for_all(self, round_: Round, branch: Branch | None, now: float) -> None:
        """What one phone answered is the user's word: the user's other phones stop ringing."""
        if round_.user is not None:
            round_.steps.clear()
        for other in round_.branches:
            if branch is None or other.user is branch.user:
                self._calls.cancel_branch(other, now)

    def answered(self, branch: Branch) -> None:
        """A call has its answer: only who gave it counts from now on."""
        call, round_ = branch.call, branch.round
        if round_ is None:
            return
        round_.stop(self._core.timers)
        if not round_.outbound:
            call.callee = branch.user
        user = branch.user.id if branch.user is not None else ""
        self._release(call, [scope for id_, scope in round_.held.items() if id_ != user])
        self._release(call, [scope for scope in branch.scopes if scope[0] == "forward"])

    # -- when nobody answers

    def _settle(self, round_: Round, now: float) -> None:
        """All has failed: the rule of the user or group, else the best answer (RFC 3261 16.7 step 6)."""
        call = round_.call
        round_.stop(self._core.timers)
        self._release(call, round_.held.values())
        round_.held.clear()
        final = best(round_.finals, of_group=round_.group is not None)
        target, why = self._forward_after(round_, final)
        if target:
            self._follow(call, round_.user or round_.group, target, why, now)
        elif round_.no_answer:
            self._calls.refuse(call, 480, "No Answer", now, rule="no-answer")
        elif final.rule:
            self._calls.refuse(call, final.status, final.reason, now, [final.headers], rule=final.rule)
        else:
            call.by = "callee"
            # RFC 3261 16.7 step 6: 503 would say that this edge has no room for any call
            status, reason = (500, "Server Internal Error") if final.status == 503 else (final.status, final.reason)
            self._calls.finish(call, status, reason, now, [final.headers], final.body)

    def _forward_after(self, round_: Round, final: Final) -> tuple[str, Why]:
        """What to dial when a round has failed, and why; "" when there is no rule for it."""
        user, group = round_.user, round_.group
        if group is not None:
            return group.forward_no_answer, NO_ANSWER
        redirect = next((f.redirect for f in round_.finals if f.redirect), "")
        target = self._redirected(round_.call, redirect) if redirect else ""
        if target:
            return target, DEFLECTED
        if user is None:
            return "", NO_ANSWER
        if round_.no_answer:
            if user.forward_unreachable and not any(branch.rang for branch in round_.branches):
                return user.forward_unreachable, UNREACHABLE
            return user.forward_no_answer, NO_ANSWER
        if final.status in BUSY_ANSWERS:
            return user.forward_busy, BUSY
        if final.status in NOT_THERE and user.forward_unreachable:
            return user.forward_unreachable, UNREACHABLE
        missed = final.status in NOT_THERE and any(f.rule == "no-answer" for f in round_.finals)
        return user.forward_no_answer if missed else "", NO_ANSWER

    def _redirected(self, call: Call, text: str) -> str:
        """What a 3xx leads to, as it would be dialled in the tenant; "" for places that are not the tenant's."""
        try:
            uri = Uri.parse(text)
        except BadMessage:
            return ""
        known = uri.scheme == "tel" or self._is_here(call.index, uri.host)
        return (called(uri).user or "") if known else ""

    # -- branches

    def _ring_phone(self, round_: Round, phone: Phone, now: float) -> None:
        user, binding = phone.user, phone.binding
        domain, group = round_.call.index.tenant.primary_domain, round_.group
        own = Address(group.name, Uri.build(group.extension, domain), {}) if group is not None else None
        to_value = str(own or f"<{Uri.build(user.extension, domain)}>")
        reached = user.extension if group is not None else ""
        flows = self._core.registrar.flows_of(binding, now)
        places = {b.flow: b for b in flows if may_go(round_.call.request.uri, b.flow)}
        self._ring_at(round_, user, target_of(binding.contact), binding.flow, to_value, now, reached, places)

    def _ring_at(
        self,
        round_: Round,
        user: User | None,
        uri: str,
        flow: Flow,
        to_value: str,
        now: float,
        reached: str = "",
        places: Mapping[Flow, Binding] = NOWHERE_ELSE,
    ) -> None:
        """Ring one phone; `reached` is the extension by which a group reaches it, `places` are all flows of it."""
        call, wire = round_.call, self._core.wire
        from_value = callerid.shown_to_phone(call.request, call.index, call.caller)
        flows = list(places) or [flow]
        branch = Branch(call, uri, flows, from_value, to_value, lambda there: f"<sip:{wire.hostport(there)}>")
        branch.bindings = dict(places)
        branch.pinned = True
        branch.user = user
        branch.round = round_
        round_.branches.append(branch)
        told = self._history(call, reached)
        branch.headers += told
        branch.rest = lines_to_pass(
            call.request, from_phone=call.caller is not None, besides=TOLD if told else frozenset()
        )
        self._calls.invite(branch, now)

    def _history(self, call: Call, reached: str) -> list[Header]:
        """What a call tells of its forwards and group; a PBX's own account of what was before is continued."""
        if not call.forwards and not reached:
            return []
        domain = call.index.tenant.primary_domain
        trusted = call.caller is None
        before = values(call.request, "history-info") if trusted else []
        headers = diversion_headers(call.forwards, domain)
        headers += [("Diversion", value) for value in (values(call.request, "diversion") if trusted else [])]
        return headers + history_headers(call.asked, call.forwards, reached, domain, before)

    def _take_route(self, round_: Round, route: Route, now: float) -> None:
        """Through one connection: where its PBX is, may have to be looked up first."""
        call, connection = round_.call, route.connection
        scopes = [(_scope(call, "connection", connection.id), connection.limits)]
        if call.forwards:
            caller = (call.request.from_.uri.user or "")[:MAX_USER_PART]
            scopes.append((_scope(call, "forward", f"{call.forwards[-1].by} {caller}"), FORWARDS_AT_ONCE))
        limit = self._hold(call, scopes, now)
        if limit is not None:
            self._place_failed(round_, None, _limited(limit), now)
            return
        held = [scope for scope, _ in scopes]
        tenant = call.index.tenant.id
        round_.waiting += 1

        def ready(flows: Sequence[Flow], then: float) -> None:
            flows = [flow for flow in flows if may_go(call.request.uri, flow)]
            round_.waiting -= 1
            if call.round is not round_ or call.ended:
                self._release(call, held)
                return
            if not flows:
                self._release(call, held)
                self._place_failed(round_, None, Final(503, "PBX Unreachable", rule="unreachable"), then)
                return
            branch = self._outbound_branch(call, route, flows)
            branch.round = round_
            branch.scopes = held
            round_.branches.append(branch)
            way = self._core.ways.route(tenant, route.user.id if route.user else "", connection)
            if way:
                branch.headers.append(("Route", way))
            self._calls.watch(branch, then)
            self._calls.invite(branch, then)
            if round_.steps:
                self._watch_for_life(round_, branch, then)

        self._core.ways.find(tenant, connection, ready, now)

    def _watch_for_life(self, round_: Round, branch: Branch, now: float) -> None:
        """While there is a fall-back, a PBX that says nothing at all is not waited for until timer B."""
        at = now + LIFE_SECONDS
        round_.step_timer = self._core.timers.set(at, lambda then: self._silent(round_, branch, then))

    def _silent(self, round_: Round, branch: Branch, now: float) -> None:
        sending = branch.sending
        if branch.done or sending is None or sending.alive or branch.seq > 1:  # later ones follow a challenge
            return
        if sending.left:  # another target of the same connection has its turn first
            self._watch_for_life(round_, branch, now)
            return
        branch.cancelled = True
        self._core.sender.abandon(sending, now)
        self._calls.fail(branch, Final(408, "Request Timeout", rule="unreachable"), now)

    def _outbound_branch(self, call: Call, route: Route, flows: Sequence[Flow]) -> Branch:
        """The INVITE for a PBX, from who the PBX knows (wire.md: From phones)."""
        connection, user, account = route.connection, route.user, route.account
        target = at_pbx(connection, route.number)
        if route.foreign is not None:
            target = str(Uri.build(route.number, route.foreign.host, route.foreign.port))
        extension = user.extension if user else "anonymous"
        identity = account.username if account else extension
        private = self._stays_unknown(call, user)
        number = callerid.number_of(call.index, user, identity)
        from_value, shown = callerid.shown_to_pbx(connection, identity, number, _display(call, user), private=private)
        domain, mode, wire = call.index.tenant.primary_domain, connection.multi_tenant, self._core.wire
        branch = Branch(
            call, target, flows, from_value, f"<{target}>", lambda flow: contact_of(extension, domain, mode, wire, flow)
        )
        branch.user = user
        branch.connection = connection
        branch.account = account
        branch.headers += [*shown, *self._history(call, "")]
        if private:
            branch.headers.append(callerid.with_privacy(call.request))
        hidden = callerid.PRIVACY if private else frozenset()
        branch.rest = lines_to_pass(call.request, from_phone=True, besides=hidden)
        return branch

    def _stays_unknown(self, call: Call, user: User | None) -> bool:
        """By the wish of whose account it is, or of the phone that calls."""
        wish = call.caller is not None and callerid.wants_privacy(call.request)
        return wish or (user is not None and user.hide_caller_id)


def _scope(call: Call, kind: str, id_: str = "") -> Scope:
    """What a call counts in, in its tenant: ids say nothing without the tenant's."""
    return kind, call.index.tenant.id, id_


def _why(rule: str) -> Why:
    return CLOSED if rule == "closed" else UNCONDITIONAL


def _serial(user: User) -> float:
    return float(user.serial_seconds) if user.fork == "serial" else 0.0


def _display(call: Call, user: User | None) -> str:
    """The name beside the number: the phone's own, the user's, or, of a forwarded call, who called."""
    sender = call.request.from_
    if call.caller is not None and call.caller is user:
        return sender.display or user.name
    if call.forwards:
        return "Anonymous" if callerid.wants_privacy(call.request) else sender.display or sender.uri.user or ""
    return user.name if user is not None else ""


def _limited(limit: LimitReached) -> Final:
    """The answer when a limit is reached."""
    if limit.rule == "forward-calls":
        return Final(482, "Loop Detected", rule="forward-loop")
    headers = f"Retry-After: {limit.retry_after}\r\n".encode() if limit.retry_after else b""
    return Final(limit.status, build.REASONS[limit.status], headers, rule=f"limit-{limit.rule}")
