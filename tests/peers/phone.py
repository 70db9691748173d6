"""A small SIP phone. `python -m tests.peers.phone --help` runs one that answers, and prints its ladder."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from tests.peers import digest
from tests.peers.agent import Agent
from tests.peers.call import SDP, TIMEOUT, Call
from tests.peers.sip import Message
from tests.peers.transaction import Headers, token
from tests.peers.wire import Hop

POLICIES = ("manual", "ring", "answer", "busy")


class Phone(Agent):
    """Registers at, and sends everything to, one edge: its outbound proxy."""

    def __init__(
        self,
        user: str,
        domain: str,
        password: str,
        edge: Hop,
        *,
        auth_user: str = "",
        algorithms: tuple[str, ...] = ("SHA-256", "MD5"),
        on_call: str = "manual",
        display: str = "",
        **agent: Any,
    ) -> None:
        if on_call not in POLICIES:
            raise ValueError(f"{on_call!r} is no policy; choose one of {', '.join(POLICIES)}")
        super().__init__(user, transport=edge.transport, **agent)
        self.domain = domain
        self.edge = edge
        self.on_call = on_call
        self.identity = (f'"{display}" ' if display else "") + f"<sip:{user}@{domain}>"
        self.auth = digest.Client(auth_user or user, password, algorithms)
        self.contact_params = ""
        """Header parameters of the Contact in REGISTER, such as `;+sip.instance="<urn:uuid:..>";reg-id=1`."""
        self._registration = f"{token()}@{self.host}"
        self._cseq = 0
        self._tag = token()

    def next_hop(self, call: Call) -> Hop:
        """A phone knows nobody but its edge."""
        return self.edge

    async def register(
        self, expires: int = 600, *, contact: str = "", headers: Headers = (), within: float = TIMEOUT
    ) -> Message:
        """REGISTER, with an answer to the challenge; returns the final answer, which may be a refusal."""
        contact = contact or self.contact(self.edge) + self.contact_params
        own = [("Contact", contact), ("Expires", str(expires)), *headers]
        return await self.ask("REGISTER", f"sip:{self.domain}", headers=own, within=within)

    async def unregister(self, within: float = TIMEOUT) -> Message:
        """Take back this phone's binding."""
        return await self.register(0, within=within)

    async def ask(
        self,
        method: str,
        uri: str,
        *,
        to: str = "",
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "text/plain",
        within: float = TIMEOUT,
    ) -> Message:
        """Any request outside a dialog (MESSAGE, OPTIONS, SUBSCRIBE); answers challenges."""
        credentials: list[tuple[str, str]] = []
        for _ in range(3):
            self._cseq += 1
            request = self.request_message(method, uri, self.edge)
            request.headers += [
                ("From", f"{self.identity};tag={self._tag}"),
                ("To", to or (self.identity if method == "REGISTER" else f"<{uri}>")),
                ("Call-ID", self._registration if method == "REGISTER" else f"{token()}@{self.host}"),
                ("CSeq", f"{self._cseq} {method}"),
                *headers,
                *credentials,
            ]
            if body:
                request.headers.append(("Content-Type", content_type))
                request.body = body
            answer: Message = await self.bounded(self.start(request, self.edge, within).final, within, "answer")
            credentials = self.credentials(answer, method, uri, self.auth, tried=bool(credentials))
            if not credentials:
                break
        return answer

    def call(self, target: str, *, body: bytes = SDP, headers: Headers = (), within: float = 32.0) -> Call:
        """Dial an extension, a number, or a whole SIP URI; returns at once."""
        uri = target if target.startswith("sip:") else f"sip:{target}@{self.domain}"
        return self.begin_call(
            uri,
            self.edge,
            local=self.identity,
            remote=f"<{uri}>",
            auth=self.auth,
            body=body,
            headers=headers,
            within=within,
        )

    def take_call(self, call: Call) -> None:
        """By policy; the call is given out by `incoming` in any case."""
        super().take_call(call)
        if self.on_call in ("ring", "answer"):
            call.ring()
        if self.on_call == "answer":
            call.answer()
        elif self.on_call == "busy":
            call.reject(486)


async def run(arguments: argparse.Namespace) -> None:
    """Register, answer what comes, until the time is over."""
    host, _, port = arguments.edge.rpartition(":")
    user, _, domain = arguments.aor.partition("@")
    edge = Hop(arguments.transport, host, int(port))
    async with Phone(
        user, domain, arguments.password, edge, on_call=arguments.on_call, lifetime=arguments.seconds, on_log=print
    ) as phone:
        await phone.register(int(arguments.seconds) + 60)
        if arguments.call:
            phone.call(arguments.call)
        await phone.closed.wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("aor", help="such as 101@acme.example")
    parser.add_argument("--password", required=True)
    parser.add_argument("--edge", required=True, help="host:port, on this machine")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    parser.add_argument("--on-call", choices=POLICIES, default="answer")
    parser.add_argument("--call", help="dial this once registered")
    parser.add_argument("--seconds", type=float, default=600)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
