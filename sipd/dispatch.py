"""Requests outside a dialog: what is refused at once, what is a phone's, what is a PBX's (wire.md's order)."""

from __future__ import annotations

from collections import OrderedDict

from sipd.auth import Authenticator, Verdict, at_pbx, find_realms
from sipd.calls import Calls, Core
from sipd.flow import Flow
from sipd.message import build
from sipd.message.build import Header
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.methods import ALLOW, not_taken
from sipd.passing import Passing
from sipd.registrar import Refused
from sipd.routing.decision import Decision, decide_dialled, decide_from_pbx, decide_outbound
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, User
from sipd.transaction.layer import ServerTransaction

OUTSIDE_DIALOG = frozenset(("INVITE", "OPTIONS", "REGISTER", "MESSAGE", "NOTIFY", "INFO", "REFER"))
UNDERSTOOD = frozenset(("100rel", "timer", "norefersub", "histinfo", "privacy", "outbound"))
"""Extensions that work end to end through the edge, so that Require may name them (RFC 3261 8.2.2.3)."""
MUTE_MEMORY = 100_000
"""Sources whose refusals are counted; the oldest are forgotten."""
WARN_CODE = 399
MAX_METHOD = 32
"""Characters of a method in a record."""


class Dispatcher:
    """Decides who a request is from and who gets it; every refusal is an event with its rule."""

    def __init__(self, core: Core, calls: Calls, passing: Passing, authenticator: Authenticator) -> None:
        self._core = core
        self._calls = calls
        self._passing = passing
        self._authenticator = authenticator
        self._refusals: OrderedDict[tuple[str, str, int], tuple[int, float]] = OrderedDict()

    def on_request(self, tx: ServerTransaction, now: float) -> None:
        request = tx.request
        refusal = self._unfit(tx)
        if refusal is not None:
            self._refuse_unfit(tx, *refusal, now)
        elif request.method == "REGISTER":
            self._register(tx, now)
        else:
            self._from_anyone(tx, now)

    # -- what no source may send

    def _unfit(self, tx: ServerTransaction) -> tuple[int, list[Header]] | None:
        """RFC 3261 8.2 and 16.3: method, scheme, hops, extensions, merged requests; what to answer."""
        request = tx.request
        status = not_taken(request.method)
        if status:
            return status, [ALLOW]
        if Uri.parse(request.uri).scheme not in ("sip", "sips"):
            return 416, []
        if request.max_forwards == 0 and request.method != "REGISTER":
            return 483, []
        missing = request.split("proxy-require")
        missing += [tag for tag in request.split("require") if tag.lower() not in UNDERSTOOD]
        if missing:
            return 420, [("Unsupported", ", ".join(dict.fromkeys(missing)))]
        if self._core.layer.merged(request):
            return 482, []
        if request.to.tag:
            return 481, []
        return None if request.method in OUTSIDE_DIALOG else (405, [ALLOW])

    def _refuse_unfit(self, tx: ServerTransaction, status: int, headers: list[Header], now: float) -> None:
        table, source = self._core.table(), tx.source
        known = table.sources.find(source.host, source.port, source.transport).known
        if known or self._core.registrar.has_phone_at(source) or not self._muted(source, now):
            self._refuse(tx, Decision("unfit", status, build.REASONS[status]), now, headers)
        else:
            self._drop(tx)

    # -- who it is from

    def _from_anyone(self, tx: ServerTransaction, now: float) -> None:
        """A registered phone's flow or a tenant's credentials make it a phone's; then the source rules."""
        table, source = self._core.table(), tx.source
        realm = next((r for r in find_realms(tx.request) if table.tenant_of(r)), None)
        if realm is not None or self._core.registrar.has_phone_at(source):
            self._from_phone(tx, realm, now)
        elif table.sources.find(source.host, source.port, source.transport).known:
            self._from_pbx(tx, now)
        elif table.tenant_of(tx.request.from_.uri.host) is not None:
            self._from_phone(tx, None, now)
        else:
            self._unknown_source(tx, now)

    def _unknown_source(self, tx: ServerTransaction, now: float) -> None:
        decision = Decision("unknown-source", 403, "Forbidden")
        if self._muted(tx.source, now):
            self._drop(tx)
        else:
            self._refuse(tx, decision, now)

    def _drop(self, tx: ServerTransaction) -> None:
        """No answer at all."""
        self._core.events.count("muted")
        self._core.layer.destroy(tx)

    def _muted(self, source: Flow, now: float) -> bool:
        """Count a refusal; whether this source has had so many that it gets no more answers for a while."""
        settings, key = self._core.settings, source[:3]
        count, until = self._refusals.pop(key, (0, 0.0))
        if until <= now:
            count, until = 0, now + settings.mute_window
        count += 1
        muted = count > settings.mute_after
        if count == settings.mute_after + 1:
            until = now + settings.mute_time
        self._refusals[key] = (count, until)
        if len(self._refusals) > MUTE_MEMORY:
            self._refusals.popitem(last=False)
        return muted

    # -- from a PBX

    def _from_pbx(self, tx: ServerTransaction, now: float) -> None:
        request, source = tx.request, tx.source
        uri = Uri.parse(request.uri)
        if request.method == "OPTIONS" and uri.user is None:
            self._capabilities(tx, now)
            return
        local_domain = uri.param("local-domain") or ""
        table = self._core.table()
        at = now if request.method == "INVITE" else None  # business hours are for calls
        decision = decide_from_pbx(
            table, source.host, source.port, source.transport, uri.user or "", uri.host, local_domain, at
        )
        if not decision.accepted:
            if decision.rule == "unknown-source":
                self._unknown_source(tx, now)
            else:
                self._refuse(tx, decision, now)
        elif request.method == "INVITE":
            self._calls.from_pbx(tx, decision, now)
        elif decision.user is not None and decision.tenant is not None:
            self._to_user(tx, decision.tenant, decision.user, decision.connection, now)
        elif decision.group is not None:  # it has no phones of its own to write to
            decision.rule, decision.status, decision.reason = "group", 480, "Temporarily Unavailable"
            self._refuse(tx, decision, now)
        else:  # what a number forwards to is dialled, not written to
            decision.rule, decision.status, decision.reason = "unknown-user", 404, "Not Found"
            self._refuse(tx, decision, now)

    def _to_user(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection | None, now: float
    ) -> None:
        """A request to a user's phones, from a connection or from a phone."""
        if not self._passing.to_user(tx, index, user, connection is not None, now):
            refusal = Decision("no-binding", 480, "Temporarily Unavailable", "", index, connection, user)
            self._refuse(tx, refusal, now)

    def _capabilities(self, tx: ServerTransaction, now: float) -> None:
        """OPTIONS to the edge itself: it is alive (RFC 3261 11.2)."""
        self._answer(tx, 200, now, [ALLOW, ("Accept", "*/*"), ("Supported", "outbound")])

    # -- from a phone

    def _from_phone(self, tx: ServerTransaction, realm: str | None, now: float) -> None:
        request = tx.request
        sender = request.from_.uri
        uri = Uri.parse(request.uri)
        table = self._core.table()
        if request.method == "OPTIONS" and uri.user is None and self._core.registrar.has_phone_at(tx.source):
            self._capabilities(tx, now)
            return
        index = table.tenant_of(sender.host) or (table.tenant_of(realm) if realm else None)
        if index is None:
            self._refuse(tx, Decision("foreign-sender", 403, "Forbidden"), now)
            return
        user = self._authenticated(tx, index, now)
        if user is None:
            return
        if index.user(sender.user or "") is not user or sender.host not in index.tenant.domains:
            self._refuse(tx, Decision("not-own-identity", 403, "Forbidden", tenant=index, user=user), now)
        elif request.method == "INVITE":
            self._calls.from_phone(tx, index, user, uri, now)
        elif request.method == "OPTIONS" and uri.user is None:
            self._capabilities(tx, now)
        else:
            self._pass_on(tx, index, user, uri, now)

    def _pass_on(self, tx: ServerTransaction, index: TenantIndex, user: User, uri: Uri, now: float) -> None:
        """A phone's MESSAGE or the like: to a user of its own tenant, else out through the PBX."""
        own = uri.host in index.tenant.domains or self._core.table().names_no_domain(uri.host)
        dialled = decide_dialled(index, uri.user or "", None) if own else decide_outbound(index, uri.user or "")
        if dialled.user is not None:
            self._to_user(tx, index, dialled.user, None, now)
        elif dialled.connection is not None:
            target = at_pbx(dialled.connection, dialled.number)
            if not own and uri.host not in (dialled.connection.registrar_domain, dialled.connection.host):
                target = str(Uri.build(uri.user, uri.host, uri.port))
            self._passing.to_connection(tx, index, user, dialled.connection, target, now)
        elif dialled.group is not None:
            self._refuse(tx, Decision("group", 480, "Temporarily Unavailable", tenant=index, user=user), now)
        else:
            self._refuse(tx, Decision(dialled.rule, 404, "Not Found", tenant=index, user=user), now)

    def _authenticated(self, tx: ServerTransaction, index: TenantIndex, now: float) -> User | None:
        """The user whose credentials the request carries; else the answer is given here."""
        if index.tenant.suspended:
            self._refuse(tx, Decision("suspended", 403, "Forbidden", tenant=index), now)
            return None
        verdict, user = self._authenticator.check(tx.request, index, now)
        if verdict is Verdict.GOOD:
            return user
        self._core.events.count(f"auth.{verdict.value}")
        agent = tx.request.get("user-agent") or ""
        realm, stale = index.tenant.primary_domain, verdict is Verdict.STALE
        headers: list[Header] = list(self._authenticator.challenges(realm, agent, stale=stale, now=now))
        if verdict is Verdict.WRONG:
            self._note(tx, Decision("wrong-credentials", 401, "Unauthorized", tenant=index), now)
        self._answer(tx, 401, now, headers)
        return None

    # -- REGISTER

    def _register(self, tx: ServerTransaction, now: float) -> None:
        """RFC 3261 10.3, in its order: domain, authentication, authorisation, then the Contacts."""
        request = tx.request
        index = self._core.table().tenant_of(Uri.parse(request.uri).host)
        if index is None:
            self._refuse(tx, Decision("unknown-domain", 404, "Not Found"), now)
            return
        user = self._authenticated(tx, index, now)
        if user is None:
            return
        own = request.to.uri
        if index.user(own.user or "") is not user or own.host not in index.tenant.domains:
            self._refuse(tx, Decision("not-own-identity", 403, "Forbidden", tenant=index, user=user), now)
            return
        try:
            contacts = self._core.registrar.register(request, index, user, tx.source, now)
        except Refused as refused:
            decision = Decision("register", refused.status, refused.reason, tenant=index, user=user)
            self._refuse(tx, decision, now, list(refused.headers))
            return
        self._core.events.count("registered")
        self._answer(tx, 200, now, [*(("Contact", contact) for contact in contacts), *_flow_headers(request)])

    # -- answers

    def _refuse(
        self, tx: ServerTransaction, decision: Decision, now: float, headers: list[Header] | None = None
    ) -> None:
        headers = list(headers or [])
        if decision.warning:
            headers.append(("Warning", f'{WARN_CODE} {self._core.settings.user_agent} "{decision.warning}"'))
        self._note(tx, decision, now)
        self._answer(tx, decision.status, now, headers, decision.reason)

    def _note(self, tx: ServerTransaction, decision: Decision, now: float) -> None:
        """The event of a refusal; nothing of credentials is in it."""
        source = tx.source
        self._core.events.count(f"refused.{decision.rule}")
        self._core.events.add(
            now, "refused",
            tenant=decision.tenant.tenant.id if decision.tenant else "",
            connection=decision.connection.id if decision.connection else "",
            user=decision.user.id if decision.user else "",
            rule=decision.rule, code=decision.status, reason=decision.reason, method=tx.method[:MAX_METHOD],
            source=f"{source.transport}:{source.host}:{source.port}", uri=tx.request.uri.partition(";")[0][:200],
        )  # fmt: skip

    def _answer(
        self,
        tx: ServerTransaction,
        status: int,
        now: float,
        headers: list[Header] | None = None,
        reason: str | None = None,
    ) -> None:
        token = self._core.wire.token()
        data = build.response(tx.request, status, reason, token, headers or [], b"", tx.source[1:3])
        self._core.layer.respond(tx, status, data, now)


def _flow_headers(request: Message) -> list[Header]:
    """RFC 5626 4.2.1: a phone that asked for outbound is told that its flow is kept."""
    asked = "outbound" in (tag.lower() for tag in request.split("supported"))
    try:
        kept = asked and any("reg-id" in c.params and "+sip.instance" in c.params for c in request.contacts)
    except BadMessage:
        return []
    return [("Require", "outbound"), ("Supported", "outbound")] if kept else []
