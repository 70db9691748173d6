"""SIP peers beside a browser: the browser's driver keeps the test's thread, so phones live in another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

from tests.peers import Call, Hop, Message, Phone
from tests.peers.agent import Agent

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds for each step."""
LIFETIME = 300.0
PUBLIC = "public.example"


class Line:
    """An event loop in a thread, and the peers in it; a context manager that ends both."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sip peers")
        self._peers = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.do(self._peers.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What the peers do, awaited from here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def phone(self, user: str, domain: str, password: str, edge: Hop, on_call: str = "answer") -> Phone:
        """A phone that has not registered yet."""
        phone = Phone(user, domain, password, edge, on_call=on_call, lifetime=LIFETIME)
        return self.do(self._peers.enter_async_context(phone))

    def registered(self, user: str, domain: str, password: str, edge: Hop) -> Phone:
        phone = self.phone(user, domain, password, edge)
        assert self.do(phone.register()).status == 200
        return phone

    def caller(self) -> Agent:
        """Somebody in the outside world, who is no customer of the PBX."""
        return self.do(self._peers.enter_async_context(Agent("caller", lifetime=LIFETIME)))

    def call(self, caller: Agent, pbx: Hop, aor: str) -> Message:
        """Call `user@domain` at a PBX, hang up if somebody answers; the final answer."""

        async def called() -> Message:
            call: Call = caller.begin_call(
                f"sip:{aor}", pbx, local=f"<sip:+4930555000@{PUBLIC}>", remote=f"<sip:{aor}>"
            )
            answer = await call.final()
            if answer.status < 300:
                await call.bye()
            return answer

        return self.do(called())
