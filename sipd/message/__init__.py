"""SIP messages (RFC 3261): bytes in, spans out. Knows nothing of transactions, routing or sockets."""

from sipd.message.address import Address
from sipd.message.build import REASONS, request, response, stamp_via
from sipd.message.check import check
from sipd.message.cseq import CSeq
from sipd.message.errors import BadMessage, LocalError
from sipd.message.message import Message
from sipd.message.scanner import DEFAULT, KNOWN_METHODS, Limits, scan
from sipd.message.uri import Uri, quote_user, same_uri
from sipd.message.via import Via

__all__ = [
    "DEFAULT",
    "KNOWN_METHODS",
    "REASONS",
    "Address",
    "BadMessage",
    "CSeq",
    "Limits",
    "LocalError",
    "Message",
    "Uri",
    "Via",
    "check",
    "quote_user",
    "request",
    "response",
    "same_uri",
    "scan",
    "stamp_via",
]
