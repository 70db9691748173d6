"""Requests outside a dialog: what is refused at once, what is a phone's, what is a PBX's (wire.md's order)."""

from __future__ import annotations

from sipd.auth import Authenticator, Checked, Verdict, account_of, at_pbx, find_realms
from sipd.callerid import is_anonymous
from sipd.calls import Core
from sipd.flow import WEB, Flow
from sipd.guard import RETRY_AFTER, Admission, Guard, place_of
from sipd.hunting import Hunting
from sipd.message import build
from sipd.message.build import Header
from sipd.message.message import Message
from sipd.message.uri import Uri, called
from sipd.methods import ALLOW, UNDERSTOOD, not_taken, not_understood
from sipd.passing import Passing
from sipd.registrar import Refused, asks_for_flow, path_of
from sipd.relayed import Line, dial, line_named, speaks_as
from sipd.relaying import Relaying
from sipd.routing.decision import Decision, Step, decide_dialled, decide_from_pbx, decide_outbound, destination
from sipd.routing.lookup import NOBODY, TenantIndex
from sipd.routing.model import Connection, Group, User
from sipd.session import too_small
from sipd.subscriptions import Subscriptions
from sipd.transaction.layer import ServerTransaction, stateless_tag

OUTSIDE_DIALOG = frozenset((
    "INVITE", "OPTIONS", "REGISTER", "MESSAGE", "NOTIFY", "INFO", "REFER", "SUBSCRIBE", "PUBLISH",
))  # fmt: skip
OPENS_SUBSCRIPTION = frozenset(("SUBSCRIBE", "REFER"))
"""RFC 6665, and the implicit subscription of RFC 3515."""
STATE_AT_PBX = frozenset(("SUBSCRIBE", "PUBLISH"))
"""What is known of a user is known to the PBX, not to the user's phones (RFC 3903, RFC 4235, RFC 3842)."""
WARN_CODE = 399
MAX_CALL_ID = 200
"""Characters of a Call-ID in a record."""
MAX_METHOD = 32
"""Characters of a method in a record."""


class Dispatcher:
    """Decides who a request is from and who gets it; every refusal is an event with its rule."""

    def __init__(
        self, core: Core, hunting: Hunting, passing: Passing, subscriptions: Subscriptions,
        authenticator: Authenticator, guard: Guard, relaying: Relaying,
    ) -> None:  # fmt: skip
        self._core = core
        self._hunting = hunting
        self._passing = passing
        self._subscriptions = subscriptions
        self._authenticator = authenticator
        self._relaying = relaying
        self._guard = guard
        self.retry_after = 0
        """Seconds after which a new call may be tried again; 0: it is taken now."""

    def on_request(self, tx: ServerTransaction, now: float) -> None:
        request = tx.request
        refusal = self._unfit(tx)
        if refusal is not None:
            status, headers = refusal
            self._refuse(tx, Decision("unfit", status, build.REASONS[status]), now, headers)
        elif self.retry_after and tx.method == "INVITE" and self._hunting.begins(request):
            headers = [("Retry-After", str(self.retry_after))]
            self._refuse(tx, Decision("draining", 503, build.REASONS[503]), now, headers)
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
        if Uri.parse(request.uri).scheme not in ("sip", "sips", "tel"):
            return 416, []
        if request.max_forwards == 0 and request.method != "REGISTER":
            return 483, []
        missing = not_understood(request)
        if missing is not None:
            return 420, missing
        if self._core.layer.merged(request):
            return 482, []
        if request.to.tag or request.method not in OUTSIDE_DIALOG:
            return 481, []
        small = too_small(request, self._core.settings)
        if small is not None:
            return 422, small
        return self._subscriptions.unfit(request) if request.method == "SUBSCRIBE" else None

    def turn_away(self, tx: ServerTransaction, admission: Admission, now: float) -> None:
        """A request of a source that sends too many, or none that is wanted."""
        if admission is Admission.BUSY:
            tx.rule = "busy"
            self._answer_once(tx, 503, now, [("Retry-After", str(RETRY_AFTER))])
        else:
            self._core.layer.drop(tx)

    # -- who it is from

    def _from_anyone(self, tx: ServerTransaction, now: float) -> None:
        """A registered phone's flow or a tenant's credentials make it a phone's; then the source rules."""
        table, source = self._core.table(), tx.source
        uri = Uri.parse(tx.request.uri)
        if tx.method == "OPTIONS" and uri.user is None and table.names_no_domain(uri.host):
            self._alive(tx, now)
            return
        realm = next((r for r in find_realms(tx.request) if table.tenant_of(r)), None)
        if realm is not None or self._is_a_phone(tx):
            self._from_phone(tx, realm, now)
        elif self._guard.whose(source).known:
            self._from_pbx(tx, now)
        elif table.tenant_of(tx.request.from_.uri.host) is not None:
            self._from_phone(tx, None, now)
        else:
            self._refuse(tx, Decision("unknown-source", 403, "Forbidden"), now)

    def _alive(self, tx: ServerTransaction, now: float) -> None:
        """Whether the edge is there may be asked by all: phones before they register, monitors; but not without end."""
        if self._guard.blame(tx.source, "alive", now):
            self._capabilities(tx, now)
        else:
            self._core.layer.drop(tx)

    def _is_a_phone(self, tx: ServerTransaction) -> bool:
        """Whether a phone is registered where this comes from; at a PBX's own address and port, whether it is the
        sender's: a PBX may have registered for a user from there, and still is who calls for all others."""
        source, table, sender = tx.source, self._core.table(), tx.request.from_.uri
        users = self._core.registrar.users_at(source)
        if not users:
            return False
        if not self._guard.whose(source).at_home(source.port):
            return True
        index = table.tenant_of(sender.host)
        user = index.user(sender.user or "") if index is not None else None
        return index is not None and user is not None and (index.tenant.id, user.id) in users

    # -- from a PBX

    def _from_pbx(self, tx: ServerTransaction, now: float) -> None:
        request, source = tx.request, tx.source
        uri = called(Uri.parse(request.uri))
        if request.method == "OPTIONS" and uri.user is None:
            self._capabilities(tx, now)
            return
        local_domain = uri.param("local-domain") or ""
        table, tracer = self._core.table(), self._core.events.tracer
        at = self._core.events.wall(now) if request.method == "INVITE" else None  # business hours are for calls
        steps: list[Step] | None = None if tracer is None else []
        decision = decide_from_pbx(
            table, source.host, source.port, source.transport, uri.user or "", uri.host, local_domain, at,
            self._core.peer_names.get(source, NOBODY), steps,
        )  # fmt: skip
        tx.rule = decision.rule
        if tracer is not None and steps:
            tracer.decided(steps, f"rule {decision.rule}" if decision.accepted else "")
        if not decision.accepted:
            self._refuse(tx, decision, now)
        elif request.method == "INVITE":
            self._hunting.from_pbx(tx, decision, now)
        elif request.method == "PUBLISH":  # the edge keeps nobody's state
            self._answer(tx, 405, now, [ALLOW])
        elif decision.user is not None and decision.tenant is not None:
            self._to_user(tx, decision.tenant, decision.user, decision.connection, now)
        elif decision.group is not None and decision.tenant is not None:
            self._to_group(tx, decision.tenant, decision.group, decision.connection, now)
        else:  # what a number forwards to is dialled, not written to
            decision.rule, decision.status, decision.reason = "unknown-user", 404, "Not Found"
            self._refuse(tx, decision, now)

    def _to_user(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection | None, now: float
    ) -> None:
        """A request to a user's phones, from a connection or from a phone."""
        if tx.method in OPENS_SUBSCRIPTION:
            there = self._subscriptions.to_user(tx, index, user, connection, now)
        else:
            there = self._passing.to_user(tx, index, user, connection is not None, now)
        if not there:
            refusal = Decision("no-binding", 480, "Temporarily Unavailable", "", index, connection, user)
            self._refuse(tx, refusal, now)

    def _to_group(
        self, tx: ServerTransaction, index: TenantIndex, group: Group, connection: Connection | None, now: float
    ) -> None:
        """A MESSAGE to a ring group is for all its members; other requests have no one end there."""
        members = index.members[group.id] if tx.method == "MESSAGE" else ()
        if not self._passing.to_users(tx, index, group.extension, members, connection is not None, now):
            rule = "no-binding" if tx.method == "MESSAGE" else "group"
            self._refuse(tx, Decision(rule, 480, "Temporarily Unavailable", "", index, connection), now)

    def _capabilities(self, tx: ServerTransaction, now: float) -> None:
        """OPTIONS to the edge itself: it is alive (RFC 3261 11.2)."""
        tx.rule = "capabilities"
        answer = self._answer_once if self._guard.is_stranger(tx.source) else self._answer
        answer(tx, 200, now, [ALLOW, ("Accept", "*/*"), ("Supported", ", ".join(sorted(UNDERSTOOD)))])

    # -- from a phone

    def _from_phone(self, tx: ServerTransaction, realm: str | None, now: float) -> None:
        request = tx.request
        sender = request.from_.uri
        uri = called(Uri.parse(request.uri))
        table = self._core.table()
        if request.method == "OPTIONS" and uri.user is None and self._core.registrar.has_phone_at(tx.source):
            self._capabilities(tx, now)
            return
        unknown = is_anonymous(sender)  # a caller who stays unknown is told by where the request goes (RFC 3323 4.1)
        index = table.tenant_of(uri.host if unknown else sender.host) or (table.tenant_of(realm) if realm else None)
        if index is None and unknown:
            index = table.tenants.get(self._core.registrar.tenant_at(tx.source))
        if index is None:
            self._refuse(tx, Decision("foreign-sender", 403, "Forbidden"), now)
            return
        line = line_named(index, sender)
        user = self._authenticated(tx, index, now) if line is None else self._accepted(tx, index, line, now)
        if user is None:
            return
        if request.uri[:4].lower() == "tel:":  # what a user dials is dialled in its tenant
            uri = uri._replace(host=index.tenant.primary_domain)
        own = index.user(sender.user or "") is user and sender.host in index.tenant.domains
        if not own and not (unknown and request.method == "INVITE"):
            self._refuse(tx, Decision("not-own-identity", 403, "Forbidden", tenant=index, user=user), now)
        elif request.method == "INVITE":
            self._hunting.from_phone(tx, index, user, uri, now)
        elif request.method == "OPTIONS" and uri.user is None:
            self._capabilities(tx, now)
        elif line is not None:
            self._pass_to_its_pbx(tx, index, line, uri, now)
        else:
            self._pass_on(tx, index, user, uri, now)

    def _accepted(self, tx: ServerTransaction, index: TenantIndex, line: Line, now: float) -> User | None:
        """The user whose phone holds the account at the PBX, where it sends from the flow over which the PBX accepted
        its registration, and as nobody else; else the answer is given here. The PBX may want to know more."""
        at_home = self._core.registrar.accepted_at((index.tenant.id, line.user.id), line.connection.id, tx.source, now)
        if index.tenant.suspended:
            self._refuse(tx, Decision("suspended", 403, "Forbidden", tenant=index), now)
        elif not at_home:
            self._refuse(tx, Decision("foreign-sender", 403, "Forbidden", tenant=index), now)
        elif not speaks_as(tx.request, line):
            self._refuse(tx, Decision("not-own-identity", 403, "Forbidden", tenant=index, user=line.user), now)
        else:
            return self._in_rate(tx, index, line.user, now)
        return None

    def _pass_to_its_pbx(self, tx: ServerTransaction, index: TenantIndex, line: Line, uri: Uri, now: float) -> None:
        """What such a phone sends goes to its PBX, whoever it is for."""
        own = self._is_here(index, uri.host)
        dialled = dial(index, line, uri.user or "")
        station = destination(index, uri.user or "", None) if own and tx.method in STATE_AT_PBX else None
        if dialled.connection is None:
            self._refuse(tx, Decision(dialled.rule, dialled.status, "Not Found", tenant=index, user=line.user), now)
            return
        named = dialled.number
        if station is not None and station.user is not None:
            named = _name_at(line.connection, index, station.user, line.user)
        target = at_pbx(line.connection, named) if own else str(Uri.build(uri.user, uri.host, uri.port))
        self._to_connection(tx, index, line.user, line.connection, target, now)

    def _is_here(self, index: TenantIndex, host: str) -> bool:
        return self._core.table().stands_for(index, host) or index.has_pbx_at(host)

    def _pass_on(self, tx: ServerTransaction, index: TenantIndex, user: User, uri: Uri, now: float) -> None:
        """A phone's MESSAGE or the like: to a user of its own tenant, else out through the PBX."""
        own = self._core.table().stands_for(index, uri.host)
        dialled = decide_dialled(index, uri.user or "", None) if own else decide_outbound(index, uri.user or "")
        default = index.connections.get(index.tenant.default_connection)
        station = dialled.user or dialled.group
        tx.rule = dialled.rule
        if tx.method in STATE_AT_PBX and default is not None and dialled.connection is None and uri.user:
            named = _name_at(default, index, station, user) if station is not None else uri.user
            self._to_connection(tx, index, user, default, at_pbx(default, named), now)
        elif dialled.user is not None:
            self._to_user(tx, index, dialled.user, None, now)
        elif dialled.connection is not None:
            target = at_pbx(dialled.connection, dialled.number)
            if not own and uri.host not in (dialled.connection.registrar_domain, dialled.connection.host):
                target = str(Uri.build(uri.user, uri.host, uri.port))
            self._to_connection(tx, index, user, dialled.connection, target, now)
        elif dialled.group is not None and tx.method not in OPENS_SUBSCRIPTION:
            self._to_group(tx, index, dialled.group, None, now)
        else:
            self._refuse(tx, Decision(dialled.rule, 404, "Not Found", tenant=index, user=user), now)

    def _to_connection(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection, target: str, now: float
    ) -> None:
        """A phone's request out through a connection."""
        part = self._subscriptions if tx.method in OPENS_SUBSCRIPTION else self._passing
        part.to_connection(tx, index, user, connection, target, now)

    def _authenticated(self, tx: ServerTransaction, index: TenantIndex, now: float) -> User | None:
        """The user whose credentials the request carries; else the answer is given here."""
        if index.tenant.suspended:
            self._refuse(tx, Decision("suspended", 403, "Forbidden", tenant=index), now)
            return None
        source = tx.source
        checked = self._authenticator.check(tx.request, index, place_of(source.host), now)
        if checked.username and self._has_guessed(tx, index, checked.username, now):
            self._core.events.count("auth.guessed")
            self._guard.blame(source, "wrong-credentials", now, proven=True)
            self._core.layer.drop(tx)
        elif checked.user is not None:
            self._guard.prove(source, now)
            return self._in_rate(tx, index, checked.user, now)
        elif self._may_try_again(tx, index, checked, now):
            tx.rule = "challenge"
            self._challenge(tx, index, now, stale=checked.verdict is Verdict.STALE)
        else:
            self._core.layer.drop(tx)
        return None

    def _in_rate(self, tx: ServerTransaction, index: TenantIndex, user: User, now: float) -> User | None:
        """The user, if the tenant may send so many; else the answer is given here."""
        if self._guard.admits_user(tx.method, tx.source, index.tenant.id, now):
            return user
        tx.rule = "busy"
        self._answer(tx, 503, now, [("Retry-After", str(RETRY_AFTER))])
        return None

    def _has_guessed(self, tx: ServerTransaction, index: TenantIndex, username: str, now: float) -> bool:
        """Whether too many passwords of this user were tried from there; not where its own phone is registered."""
        if not self._guard.has_guessed(tx.source, index.tenant.id, username, now):
            return False
        user = index.user(username)
        return user is None or (index.tenant.id, user.id) not in self._core.registrar.users_at(tx.source)

    def _may_try_again(self, tx: ServerTransaction, index: TenantIndex, checked: Checked, now: float) -> bool:
        """Whether credentials that did not do are answered with a challenge."""
        self._core.events.count(f"auth.{checked.verdict.value}")
        if checked.verdict is Verdict.WRONG:
            if not self._guard.wrong(tx.source, index.tenant.id, checked.username, now):
                return False
            self._note(tx, Decision("wrong-credentials", 401, "Unauthorized", tenant=index), now)
            return True
        return checked.verdict is Verdict.STALE or self._guard.blame(tx.source, "challenge", now)

    def _challenge(self, tx: ServerTransaction, index: TenantIndex, now: float, *, stale: bool) -> None:
        agent, web = tx.request.get("user-agent") or "", tx.source.transport in WEB
        headers: list[Header] = list(
            self._authenticator.challenges(
                index.tenant.primary_domain, agent, place_of(tx.source.host), stale=stale, now=now, web=web
            )
        )
        self._answer_once(tx, 401, now, headers)

    # -- REGISTER

    def _register(self, tx: ServerTransaction, now: float) -> None:
        """RFC 3261 10.3, in its order: domain, authentication, authorisation, then the Contacts."""
        request = tx.request
        table, host = self._core.table(), Uri.parse(request.uri).host
        index = table.tenant_of(host)
        if index is None and table.names_no_domain(host):  # of a phone that has a field for the server, and one for To
            index = table.tenant_of(request.to.uri.host)
        if index is None:
            self._refuse(tx, Decision("unknown-domain", 404, "Not Found"), now)
            return
        line = line_named(index, request.to.uri)
        if line is not None and not index.tenant.suspended:
            self._relay_registration(tx, index, line, now)
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
        tx.rule = "register"
        headers = [*(("Contact", contact) for contact in contacts), *self._way_headers(request, tx.source)]
        self._answer(tx, 200, now, headers)

    def _relay_registration(self, tx: ServerTransaction, index: TenantIndex, line: Line, now: float) -> None:
        """Whether it is the user's, the PBX says."""
        if self._has_guessed(tx, index, line.user.extension, now):
            self._core.events.count("auth.guessed")
            self._core.layer.drop(tx)
            return
        if not speaks_as(tx.request, line):
            self._refuse(tx, Decision("not-own-identity", 403, "Forbidden", tenant=index), now)
            return
        try:
            headers = self._way_headers(tx.request, tx.source)
            self._relaying.register(tx, index, line, headers, now)
        except Refused as refused:
            decision = Decision("register", refused.status, refused.reason, tenant=index)
            self._refuse(tx, decision, now, list(refused.headers))

    def _way_headers(self, request: Message, flow: Flow) -> list[Header]:
        """A phone that asked for a flow of its own is told that it has one, and how often to keep it alive (RFC 5626 6,
        5.4); proxies on the way are told that theirs is known (RFC 3327 5.3)."""
        path: list[Header] = [("Path", value) for value in request.split("path")]
        asked = "outbound" in (tag.lower() for tag in request.split("supported"))
        if not (asked and any(asks_for_flow(request, c, path_of(request)) for c in request.contacts if not c.star)):
            return path
        timer = self._core.keepalive.flow_timer(flow)
        return [*path, ("Require", "outbound"), ("Supported", "outbound, path"), ("Flow-Timer", str(timer))]

    # -- answers

    def _refuse(
        self, tx: ServerTransaction, decision: Decision, now: float, headers: list[Header] | None = None
    ) -> None:
        stranger = self._guard.is_stranger(tx.source)
        if decision.user is None and not self._guard.blame(tx.source, decision.rule, now):
            self._core.layer.drop(tx)
            return
        headers = list(headers or [])
        if decision.warning:
            headers.append(("Warning", f'{WARN_CODE} {self._core.settings.user_agent} "{decision.warning}"'))
        self._note(tx, decision, now)
        answer = self._answer_once if stranger else self._answer
        answer(tx, decision.status, now, headers, decision.reason)

    def _note(self, tx: ServerTransaction, decision: Decision, now: float) -> None:
        """The event of a refusal; nothing of credentials is in it."""
        source, tx.rule = tx.source, decision.rule
        self._core.events.count(f"refused.{decision.rule}")
        self._core.events.add(
            now, "refused",
            tenant=decision.tenant.tenant.id if decision.tenant else "",
            connection=decision.connection.id if decision.connection else "",
            user=decision.user.id if decision.user else "",
            rule=decision.rule, code=decision.status, reason=decision.reason, method=tx.method[:MAX_METHOD],
            source=f"{source.transport}:{source.host}:{source.port}", uri=tx.request.uri.partition(";")[0][:200],
            call_id=tx.request.call_id[:MAX_CALL_ID],
        )  # fmt: skip

    def _answer_once(
        self,
        tx: ServerTransaction,
        status: int,
        now: float,
        headers: list[Header] | None = None,
        reason: str | None = None,
    ) -> None:
        """To whoever has not proved who it is: one answer for each request, and nothing kept (RFC 3261 26.3.2.4).

        An answer that would be more than was asked is made shorter: one challenge alone, no headers that only help.
        """
        tag, headers = stateless_tag(tx.request), headers or []
        data = build.response(tx.request, status, reason, tag, headers, b"", tx.source[1:3])
        if headers and not self._guard.affords(tx.source, len(data), now):
            least = headers[:1] if status == 401 else []
            data = build.response(tx.request, status, reason, tag, least, b"", tx.source[1:3])
        self._core.layer.respond(tx, status, data, now)
        self._core.layer.destroy(tx)

    def _answer(
        self,
        tx: ServerTransaction,
        status: int,
        now: float,
        headers: list[Header] | None = None,
        reason: str | None = None,
        tag: str = "",
    ) -> None:
        tag = tag or self._core.wire.token()
        data = build.response(tx.request, status, reason, tag, headers or [], b"", tx.source[1:3])
        self._core.layer.respond(tx, status, data, now)


def _name_at(connection: Connection, index: TenantIndex, asked: User | Group, asking: User) -> str:
    """A user as the PBX names it: one's own account, as in REGISTER; others by what one would dial."""
    account = account_of(index, asked, connection) if asked is asking else None
    return account.username if account is not None else asked.extension
