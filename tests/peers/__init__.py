"""Test peers: a phone and a stand-in PBX that share no code with the edge, so that they share no bug with it.

Loopback only, bounded in time and memory. Both are asyncio; each test runs its own loop:

    async with StandinPbx({"pbx.example": {"101": "secret"}}) as pbx, Phone("101", "pbx.example", "secret",
                                                                            edge=pbx.hop()) as phone:
        await phone.register()
        call = await pbx.call("101@pbx.example")
        incoming = await phone.incoming()
        incoming.answer()
        await call.answered()
        await call.bye()
"""

from tests.peers.call import Call, CallFailedError
from tests.peers.phone import Phone
from tests.peers.sip import Address, Message, Uri
from tests.peers.standin_pbx import StandinPbx
from tests.peers.transaction import PeerTimeoutError
from tests.peers.wire import Hop

__all__ = ["Address", "Call", "CallFailedError", "Hop", "Message", "PeerTimeoutError", "Phone", "StandinPbx", "Uri"]
