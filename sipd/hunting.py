"""Hunting: where a call goes, to a user's phones, after a forward, or out through a connection."""

from __future__ import annotations

from sipd.auth import PbxAccount, account_of, at_pbx
from sipd.calls import Branch, Call, Calls, Core, Final
from sipd.dialogs import lines_to_pass, target_of
from sipd.flow import Flow
from sipd.limits import LimitReached, Scope
from sipd.message import build
from sipd.message.address import Address
from sipd.message.errors import LocalError
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.registrar import Binding
from sipd.routing.decision import Decision, Dialled, decide_dialled, decide_outbound
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, Limits, User
from sipd.transaction.layer import ServerTransaction
from sipd.upstream import connection_hop, contact_of

BUSY = (486, 600)
NOT_THERE = (404, 408, 410, 430, 480, 502, 503, 504)


class Hunting:
    """Decides where each call goes; `Calls` does what that takes."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls
        calls.hunting = self

    # -- beginning

    def from_pbx(self, tx: ServerTransaction, decision: Decision, now: float) -> None:
        """A call that the decision order let in."""
        if decision.tenant is None:
            raise LocalError("accepted without a tenant")
        call = self._calls.begin(tx, decision.tenant, "in", now)
        call.connection = decision.connection
        limit = self._take(call, decision.connection, decision.user, now)
        if limit is not None:
            self._limit(call, limit, decision.user, now)
        elif decision.user is not None:
            self.ring(call, decision.user, now)
        else:
            self.dial(call, None, decision.forward, now)

    def from_phone(self, tx: ServerTransaction, index: TenantIndex, user: User, uri: Uri, now: float) -> None:
        """A call that an authenticated user makes."""
        call = self._calls.begin(tx, index, "out", now)
        call.caller = user
        own = uri.host in index.tenant.domains or self._core.table().names_no_domain(uri.host)
        at_pbx = any(uri.host in (c.registrar_domain, c.host) for c in index.connections.values())
        if own or at_pbx:
            self._dial_as(call, user, decide_dialled(index, uri.user or "", now), now)
        else:  # another domain, also another tenant's: like the public, through the PBX
            self._dial_as(call, user, decide_outbound(index, uri.user or ""), now, foreign=uri)

    def _dial_as(self, call: Call, user: User, dialled: Dialled, now: float, foreign: Uri | None = None) -> None:
        """What a user dialled, by the connection's rule for calls inside the tenant."""
        connection = dialled.connection
        number = dialled.number
        callee = dialled.user
        if callee is not None:
            call.direction = "internal"
            connection = call.index.connections.get(call.index.tenant.default_connection)
            number = callee.extension
            if connection is None or self._directly(connection, callee, now):
                connection = None
        limit = self._take(call, connection, user, now)
        if limit is not None:
            self._limit(call, limit, None, now)
        elif connection is not None:
            self._call_out(call, user, connection, number, now, foreign)
        elif callee is not None:
            self.ring(call, callee, now)
        elif dialled.forward:
            self.dial(call, user, dialled.forward, now)
        else:
            self._calls.refuse(call, 404, "Not Found", now, rule=dialled.rule)

    def _directly(self, connection: Connection, callee: User, now: float) -> bool:
        if connection.internal_calls == "always_direct":
            return True
        here = bool(self._core.registrar.bindings(callee.id, now))
        return connection.internal_calls == "direct_when_possible" and here

    def _take(self, call: Call, connection: Connection | None, user: User | None, now: float) -> LimitReached | None:
        """Count the call against every limit that applies, or none."""
        tenant = call.index.tenant
        scopes: list[tuple[Scope, Limits]] = [
            (("installation", ""), self._core.table().installation.limits),
            (("tenant", tenant.id), tenant.limits),
        ]
        if connection is not None:
            scopes.append((("connection", connection.id), connection.limits))
        if user is not None:
            scopes.append((("user", user.id), user.limits))
        limit = self._core.limits.take(scopes, now)
        if limit is None:
            call.scopes = [scope for scope, _ in scopes]
        source = call.tx.source
        self._core.events.add(
            now, "call.started", tenant=tenant.id, connection=connection.id if connection else "",
            user=user.id if user else "", call=call.id, **{"from": call.from_text}, to=call.to_text,
            direction=call.direction, source=f"{source.transport}:{source.host}:{source.port}",
        )  # fmt: skip
        return limit

    def _limit(self, call: Call, limit: LimitReached, user: User | None, now: float) -> None:
        if limit.status == 486 and user is not None and user.forward_busy:
            self._forward(call, user, user.forward_busy, now)
            return
        headers = [("Retry-After", str(limit.retry_after))] if limit.retry_after else []
        reason = build.REASONS[limit.status]
        self._calls.refuse(call, limit.status, reason, now, headers, rule=f"limit-{limit.rule}")

    # -- where it goes

    def ring(self, call: Call, user: User, now: float) -> None:
        """Ring all phones of a user, or follow the user's rule."""
        if user.forward_always:
            self._forward(call, user, user.forward_always, now)
            return
        bindings = self._core.registrar.bindings(user.id, now)
        if not bindings:
            if user.forward_unreachable:
                self._forward(call, user, user.forward_unreachable, now)
            else:
                self._calls.refuse(call, 480, "Temporarily Unavailable", now, rule="no-binding")
            return
        call.callee = user
        call.ring_timer = self._core.timers.set(now + user.ring_seconds, lambda at: self._rang_out(call, at))
        for binding in bindings:
            self._ring_phone(call, user, binding, now)

    def dial(self, call: Call, user: User | None, target: str, now: float) -> None:
        """Follow a forward: a user of the tenant rings here, anything else goes out with the user's account."""
        call.hops += 1
        if call.hops > self._core.settings.max_forward_hops:
            self._calls.refuse(call, 480, "Too Many Forwards", now, rule="forward-loop")
            return
        dialled = decide_dialled(call.index, target, now)
        if dialled.user is not None:
            self.ring(call, dialled.user, now)
        elif dialled.forward:
            self.dial(call, user, dialled.forward, now)
        elif dialled.connection is not None:
            self._call_out(call, user, dialled.connection, dialled.number, now)
        else:
            self._calls.refuse(call, 480, "Temporarily Unavailable", now, rule="forward-nowhere")

    def _forward(self, call: Call, user: User, target: str, now: float) -> None:
        """Another round: what became of the one before does not count any more."""
        call.callee = None
        call.finals = []
        call.no_answer = False
        if call.ring_timer is not None:
            self._core.timers.cancel(call.ring_timer)
        self.dial(call, user, target, now)

    def _ring_phone(self, call: Call, user: User, binding: Binding, now: float) -> None:
        wire = self._core.wire
        to_value = f"<{Uri.build(user.extension, call.index.tenant.primary_domain)}>"
        contact = f"<sip:{wire.hostport(binding.flow)}>"
        from_value = _without_tag(call.request)
        uri = target_of(binding.contact)
        branch = Branch(call, uri, binding.flow, from_value, to_value, contact)
        branch.pinned = True
        branch.rest = lines_to_pass(call.request, from_phone=call.caller is not None)
        self._calls.invite(branch, now)

    def _call_out(
        self,
        call: Call,
        user: User | None,
        connection: Connection,
        number: str,
        now: float,
        foreign: Uri | None = None,
    ) -> None:
        """Through a connection, as the user that the PBX knows (wire.md: From phones)."""
        account = account_of(call.index, user, connection) if user else None
        if account is None and connection.strategy == "on_behalf":
            self._calls.refuse(call, 403, "No Account At The PBX", now, rule="no-account")
            return
        hop, route = connection_hop(connection)

        def ready(flow: Flow | None, then: float) -> None:
            if call.ended:
                return
            if flow is None:
                self._calls.fail(call, None, Final(503, "PBX Unreachable", rule="unreachable"), then)
                return
            branch = self._outbound_branch(call, user, account, connection, number, foreign, flow)
            if route:
                branch.headers.append(("Route", route))
            branch.timer = self._core.timers.set(
                then + self._core.settings.caller_timeout, lambda at: self._calls.too_long(branch, at)
            )
            self._calls.invite(branch, then)

        self._core.wire.when_ready(*hop, ready, now)

    def _outbound_branch(
        self,
        call: Call,
        user: User | None,
        account: PbxAccount | None,
        connection: Connection,
        number: str,
        foreign: Uri | None,
        flow: Flow,
    ) -> Branch:
        target = at_pbx(connection, number)
        if foreign is not None:
            target = str(Uri.build(number, foreign.host, foreign.port))
        identity = account.username if account else (user.extension if user else "anonymous")
        display = Address(user.name if user else "", Uri.parse(at_pbx(connection, identity)), {})
        extension = user.extension if user else "anonymous"
        contact = contact_of(
            extension, call.index.tenant.primary_domain, connection.multi_tenant, self._core.wire, flow
        )
        branch = Branch(call, target, flow, str(display), f"<{target}>", contact)
        branch.account = account
        branch.rest = lines_to_pass(call.request, from_phone=True)
        if call.caller is None and user is not None:  # a call from the PBX that a user forwards (RFC 5806)
            branch.headers.append(("Diversion", f"<{Uri.build(user.extension, call.index.tenant.primary_domain)}>"))
        return branch

    # -- when nobody answers

    def settle(self, call: Call, now: float) -> None:
        """All branches failed: the user's rule, else the best answer (RFC 3261 16.7 step 6)."""
        final = min(call.finals, key=_rank)
        user = call.callee
        if user is not None:
            target = self._forward_after(user, final, no_answer=call.no_answer)
            if target:
                self._forward(call, user, target, now)
                return
        if call.no_answer:
            self._calls.refuse(call, 480, "No Answer", now, rule="no-answer")
        elif final.rule:
            self._calls.refuse(call, final.status, final.reason, now, rule=final.rule)
        else:
            call.by = "callee"
            self._calls.finish(call, final.status, final.reason, now, [final.headers], final.body)

    def _forward_after(self, user: User, final: Final, *, no_answer: bool) -> str:
        if no_answer:
            return user.forward_no_answer
        if final.redirect:
            return final.redirect
        if final.status in BUSY:
            return user.forward_busy
        return user.forward_unreachable if final.status in NOT_THERE else ""

    def _rang_out(self, call: Call, now: float) -> None:
        """Nobody answered in time: the phones stop ringing, and the user's rule comes."""
        if call.pair is not None or call.ended:
            return
        call.no_answer = True
        self._calls.cancel_all(call, now)
        call.finals.append(Final(480, "No Answer"))
        self.settle(call, now)


def _without_tag(request: Message) -> str:
    """The caller's From for the other leg: same name and URI, our own tag comes behind."""
    caller = request.from_
    params = {name: value for name, value in caller.params.items() if name != "tag"}
    return str(Address(caller.display, caller.uri, params, caller.uri_text))


def _rank(final: Final) -> tuple[int, int]:
    """Lower is better: 6xx ends all, then the lowest class, then what says more than 408 or 480."""
    kind = final.status // 100
    return (0 if kind == 6 else kind, 1 if final.status in (408, 480) else 0)
