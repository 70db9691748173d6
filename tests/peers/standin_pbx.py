"""A stand-in PBX: registrar and back-to-back user agent by RFC 3261, with the habits of real PBXs as switches.

`python -m tests.peers.standin_pbx --account 101:secret@pbx.example` runs one and prints its ladder.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.peers import digest
from tests.peers.agent import Agent
from tests.peers.call import SDP, Call, CallFailedError
from tests.peers.sip import Address, Message, Uri
from tests.peers.transaction import CHALLENGES, Headers, PeerTimeoutError, Server
from tests.peers.wire import Hop

MAX_BINDINGS = 10
RING_SECONDS = 60.0
CONTACT_MODES = ("whole", "rewrite")


@dataclass
class Binding:
    """One Contact of a user, whole as it came."""

    contact: str
    """The URI, untouched."""
    hop: Hop
    """Where the REGISTER came from."""
    expires_at: float
    """Seconds of the event loop's clock."""
    call_id: str
    cseq: int


class StandinPbx(Agent):
    """Accounts are {domain: {user: password}}; the domain is the digest realm."""

    def __init__(
        self,
        accounts: Mapping[str, Mapping[str, str]],
        *,
        algorithms: tuple[str, ...] = ("MD5",),
        qop: bool = True,
        uses_per_nonce: int = 1000,
        challenge_calls: bool = True,
        contact_mode: str = "whole",
        min_expires: int = 0,
        max_expires: int = 3600,
        numbers: Mapping[str, str] | None = None,
        auth_names: Mapping[str, str] | None = None,
        **agent: Any,
    ) -> None:
        if contact_mode not in CONTACT_MODES:
            raise ValueError(f"{contact_mode!r} is no contact mode; choose one of {', '.join(CONTACT_MODES)}")
        super().__init__("pbx", **agent)
        self.accounts = {domain: dict(users) for domain, users in accounts.items()}
        self.challenge_calls = challenge_calls
        self.contact_mode = contact_mode
        """"whole": calls go to the registered Contact URI (RFC 3261 section 16.5). "rewrite": the host is replaced by
        the source of the REGISTER, as Asterisk does with rewrite_contact=yes."""
        self.min_expires = min_expires
        self.max_expires = max_expires
        self.numbers = dict(numbers or {"9000": "answer", "9001": "busy", "9002": "ring"})
        """What happens on calls to these: "answer", "busy", "ring", "manual" (given out by `incoming`); `*` is any
        that is no registered user."""
        self.auth_names = dict(auth_names or {})
        """Digest user name -> user, where they differ."""
        self.refuse: dict[str, int] = {}
        """AOR -> status, for registrations that are to fail."""
        self.retry_after = 0
        """Seconds in Retry-After of those."""
        self.bindings: dict[str, dict[str, Binding]] = {}
        """AOR -> Contact URI -> binding."""
        self.auth = digest.Server(algorithms, qop, uses_per_nonce)

    # What a test does

    def restart(self) -> None:
        """Forget bindings, nonces and connections, as after a crash."""
        self.bindings.clear()
        self.auth.nonces.clear()
        self.drop_streams()

    def bindings_of(self, aor: str) -> list[Binding]:
        """Those that have not expired."""
        now = asyncio.get_running_loop().time()
        return [binding for binding in self.bindings.get(aor, {}).values() if binding.expires_at > now]

    def find(self, who: str) -> Binding:
        """The newest binding of an AOR, or else the one whose Contact is `user@host`. Raises KeyError."""
        found = self.bindings_of(who) or [
            binding
            for aor in self.bindings
            for binding in self.bindings_of(aor)
            if Uri.parse(binding.contact).aor == who
        ]
        if not found:
            raise KeyError(f"{who} is not registered; registered are {list(self.bindings)}")
        return found[-1]

    def target_of(self, binding: Binding) -> str:
        """The Request-URI of a call to a binding."""
        if self.contact_mode == "whole":
            return binding.contact
        uri = Uri.parse(binding.contact)
        params = "".join(
            f";{name}={value}" if value else f";{name}"
            for name, value in uri.params.items()
            if (name, value.lower()) != ("transport", "udp")
        )
        return f"sip:{uri.user}@{binding.hop.host}:{binding.hop.port}{params}"

    def call(self, who: str, *, caller: str = "+4930555000", **options: Any) -> Call:
        """Call a registered AOR, or the Contact `user@domain`, at where it registered from.

        The Request-URI is by `contact_mode`. Raises KeyError if nobody is registered there.
        """
        binding = self.find(who)
        return self.call_uri(self.target_of(binding), binding.hop, caller=caller, **options)

    def call_uri(
        self,
        uri: str,
        hop: Hop,
        *,
        caller: str = "+4930555000",
        to: str = "",
        body: bytes = SDP,
        headers: Headers = (),
        within: float = 32.0,
    ) -> Call:
        """Call any Request-URI at any hop on this machine; returns at once."""
        domain = next(iter(self.accounts), self.host)
        local = f"<{caller}>" if caller.startswith("sip:") else f"<sip:{caller}@{domain}>"
        return self.begin_call(
            uri, hop, local=local, remote=to or f"<{uri}>", body=body, headers=headers, within=within
        )

    # Registrar (RFC 3261 section 10.3)

    def take_new(self, server: Server) -> None:
        if server.request.method == "REGISTER":
            self._register(server)
        elif server.request.method == "INVITE":
            self._invite(server)
        else:
            super().take_new(server)

    def _register(self, server: Server) -> None:
        request = server.request
        aor = request.to.uri.aor
        domain = Uri.parse(request.uri).host.lower()
        if domain not in self.accounts or aor.partition("@")[2] != domain:
            server.answer(404)
            return
        user = self._authenticated(server, domain, 401)
        if user is None:
            return
        if user != request.to.uri.user:
            server.answer(403)
        elif aor in self.refuse:
            retry = [("Retry-After", str(self.retry_after))] if self.retry_after else []
            server.answer(self.refuse[aor], headers=retry)
        else:
            self._bind(server, aor)

    def _authenticated(self, server: Server, realm: str, status: int) -> str | None:
        """The user, or None after a challenge or refusal."""
        ask, name = CHALLENGES[status]
        verdict = "none"
        for header in server.request.all(name):
            fields = digest.fields_of(header)
            if fields.get("realm") == realm:
                verdict = self.auth.check(header, server.request.method, self._password)
                if verdict == "ok":
                    return self.auth_names.get(fields["username"], fields["username"])
        challenges = self.auth.challenges(realm, stale=verdict == "stale")
        server.answer(status, headers=[(ask, text) for text in challenges])
        return None

    def _password(self, username: str, realm: str) -> str | None:
        return self.accounts.get(realm, {}).get(self.auth_names.get(username, username))

    def _bind(self, server: Server, aor: str) -> None:
        request = server.request
        bound = self.bindings.setdefault(aor, {})
        default = request.get("Expires", str(self.max_expires))
        if request.get("Contact") == "*":
            bound.clear()
        for contact in request.contacts if request.get("Contact") != "*" else []:
            expires = min(int(contact.params.get("expires", default)), self.max_expires)
            if 0 < expires < self.min_expires:
                server.answer(423, headers=[("Min-Expires", str(self.min_expires))])
                return
            self._set(bound, contact, expires, request, server.hop)
        now = asyncio.get_running_loop().time()
        listed = [("Contact", f"<{b.contact}>;expires={round(b.expires_at - now)}") for b in self.bindings_of(aor)]
        server.answer(200, headers=listed)

    def _set(self, bound: dict[str, Binding], contact: Address, expires: int, request: Message, hop: Hop) -> None:
        bound.pop(contact.uri_text, None)
        if expires:
            while len(bound) >= MAX_BINDINGS:
                del bound[next(iter(bound))]
            until = asyncio.get_running_loop().time() + expires
            bound[contact.uri_text] = Binding(contact.uri_text, hop, until, request.call_id, request.cseq[0])

    # Calls

    def _invite(self, server: Server) -> None:
        server.answer(100)
        domain = server.request.from_.uri.host.lower()
        if self.challenge_calls:
            if domain not in self.accounts:
                server.answer(403)
                return
            if self._authenticated(server, domain, 407) is None:
                return
        self.take_call(self.offered(server))

    def take_call(self, call: Call) -> None:
        """The dialplan: numbers, then registered users of the caller's domain."""
        dialled = Uri.parse(call.invite.uri).user
        domain = call.invite.from_.uri.host.lower()
        aor = f"{dialled}@{domain}"
        behaviour = self.numbers.get(dialled) or ("" if self.bindings_of(aor) else self.numbers.get("*", ""))
        if behaviour == "manual":
            super().take_call(call)
        elif behaviour in ("answer", "ring"):
            call.ring()
            if behaviour == "answer":
                call.answer()
        elif behaviour == "busy":
            call.reject(486)
        elif self.bindings_of(aor):
            self.spawn(self._bridge(call, aor))
        else:
            call.reject(480 if dialled in self.accounts.get(domain, {}) else 404)

    async def _bridge(self, caller: Call, aor: str) -> None:
        """Call the user, and join both legs until one hangs up."""
        identity = f"sip:{caller.invite.from_.uri.aor}"
        callee = self.call(aor, caller=identity, body=caller.remote_body)
        try:
            await callee.ringing(RING_SECONDS)
            if callee.state == "ringing" and caller.state == "offered":
                caller.ring()
            await self._first(callee.final(RING_SECONDS), caller.ended(RING_SECONDS))
            if caller.state == "ended":
                await callee.cancel()
                return
            answer = await callee.answered()
            caller.answer(answer.body)
        except CallFailedError as failure:
            caller.reject(failure.status)
            return
        except PeerTimeoutError:
            caller.reject(408)
            return
        await self._first(caller.ended(self.lifetime), callee.ended(self.lifetime))
        other = callee if caller.state == "ended" else caller
        if other.state != "ended":
            await other.bye()

    @staticmethod
    async def _first(*waits: Any) -> None:
        """Until one of them is over."""
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def run(arguments: argparse.Namespace) -> None:
    """Serve until the time is over."""
    accounts: dict[str, dict[str, str]] = {}
    for account in arguments.account:
        user, _, rest = account.partition(":")
        password, _, domain = rest.rpartition("@")
        accounts.setdefault(domain, {})[user] = password
    async with StandinPbx(
        accounts,
        port=arguments.port,
        lifetime=arguments.seconds,
        contact_mode=arguments.contact_mode,
        on_log=lambda entry: print(entry, flush=True),
    ) as pbx:
        print(f"stand-in PBX on {pbx.host}:{pbx.port}", flush=True)
        await pbx.closed.wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--account", action="append", required=True, help="user:password@domain; may be repeated")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--contact-mode", choices=CONTACT_MODES, default="whole")
    parser.add_argument("--seconds", type=float, default=600)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
