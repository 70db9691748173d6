"""A phone made of the PyPI package aiosip 0.2.0, and the shim that lets it be imported (docs/decisions/0001).

The package needs `asyncio.coroutine` and `collections.MutableMapping`, which Python 3.11 and 3.10 took away. Otherwise
it is used as it is, faults included: it keeps a request's branch for the one with credentials, sends `qop` without nc
and cnonce, writes the To URI as Request-URI, and fails where there are two challenges.
"""

from __future__ import annotations

import asyncio
import collections
import collections.abc
import importlib
import types
import warnings
from typing import Any

from tests.peers.wire import Hop, free_port

PATIENCE = 20.0
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n"


def import_aiosip() -> Any:
    """The package; what it misses is there while it is imported."""
    lent = [(asyncio, "coroutine", types.coroutine), (collections, "MutableMapping", collections.abc.MutableMapping)]
    missing = [(module, name, value) for module, name, value in lent if not hasattr(module, name)]
    for module, name, value in missing:
        setattr(module, name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in its regular expressions
            return importlib.import_module("aiosip")
    finally:
        for module, name, _ in missing:
            delattr(module, name)


class AiosipPhone:
    """One account: registers, answers what calls it, can hang up."""

    def __init__(self, user: str, domain: str, password: str, edge: Hop) -> None:
        self.aiosip = import_aiosip()
        self.user, self.domain, self.password, self.edge = user, domain, password, edge
        self.address = ("127.0.0.1", free_port())
        self.calls: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()
        """(dialog, INVITE) of each call that was answered."""
        self.requests: list[str] = []
        """Methods that came in a dialog."""
        self.app = self.aiosip.Application()
        self.app.router.add_route("INVITE", self._answer)
        self._kept: list[Any] = []

    @property
    def contact(self) -> str:
        return f"sip:{self.user}@{self.address[0]}:{self.address[1]}"

    async def register(self, expires: int = 120) -> int:
        """Status of the last answer."""
        aor = f"sip:{self.user}@{self.domain}"
        edge = (self.edge.host, self.edge.port)
        dialog = await self.app.start_dialog(
            aor, aor, self.contact, local_addr=self.address, remote_addr=edge, password=self.password
        )
        # Calls come to the same socket; the package looks for it by the To and Contact of the INVITE.
        self.app._protocols[type(dialog.protocol), (self.domain, None), edge] = dialog.protocol
        self._kept.append(dialog)
        answer = await asyncio.wait_for(dialog.register(expires=expires), PATIENCE)
        return int(answer.status_code)

    @types.coroutine
    def _answer(self, dialog: Any, invite: Any) -> Any:
        """Ring, and answer with an SDP of its own."""
        self._kept.append(dialog)  # the package itself forgets dialogs that nobody holds
        for method in ("ACK", "BYE", "CANCEL"):
            dialog.register_callback(method, lambda _, message: self.requests.append(message.method))
        dialog.contact_details = self.aiosip.contact.Contact.from_header(self.contact)
        dialog.to_details.add_tag()
        for status, reason, body in ((180, "Ringing", None), (200, "OK", SDP)):
            headers = self.aiosip.dialog.CIMultiDict()
            for name in ("Via", "CSeq", "Call-ID"):
                headers[name] = invite.headers[name]
            kind = "application/sdp" if body else None
            dialog.send_reply(status, reason, dialog.to_details, headers=headers, content_type=kind, payload=body)
            yield from asyncio.sleep(0)
        self.calls.put_nowait((dialog, invite))

    async def call(self) -> tuple[Any, Any]:
        """The next one that came."""
        return await asyncio.wait_for(self.calls.get(), PATIENCE)

    async def hang_up(self, dialog: Any) -> int:
        """Status of the answer to its BYE."""
        ours, theirs = dialog.to_details, dialog.from_details
        answer = await asyncio.wait_for(dialog.send_message("BYE", to_details=theirs, from_details=ours), PATIENCE)
        return int(answer.status_code)

    def close(self) -> None:
        for transport in self.app._transports.values():
            transport.close()
