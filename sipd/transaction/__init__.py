"""Transactions (RFC 3261 section 17, RFC 6026) without clock or socket."""

from sipd.transaction.layer import (
    ClientTransaction,
    Layer,
    ServerTransaction,
    Timing,
    TransactionUser,
    cancel_request,
)

__all__ = ["ClientTransaction", "Layer", "ServerTransaction", "Timing", "TransactionUser", "cancel_request"]
