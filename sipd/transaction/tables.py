"""The four state machines of RFC 3261 section 17 with RFC 6026: everything that affects them is in this file.

A table maps state and input to an arrow: actions in order, then the next state. An input that a state does not list
is absorbed. A single letter among the actions starts that timer; over streams the retransmission timers A, E and G
are not started, and the waiting timers D, I, J and K are zero: they fire at once (17.1.1.2, 17.1.2.2, 17.2.1, 17.2.2).
"""

from __future__ import annotations

from typing import Final

Arrow = tuple[tuple[str, ...], str]
Table = dict[str, dict[str, Arrow]]

# States
CALLING: Final = "calling"
TRYING: Final = "trying"
PROCEEDING: Final = "proceeding"
COMPLETED: Final = "completed"
CONFIRMED: Final = "confirmed"
ACCEPTED: Final = "accepted"
TERMINATED: Final = "terminated"

# Inputs: responses received (client), responses to send (server)
PROVISIONAL: Final = "1xx"
SUCCESS: Final = "2xx"
FAILURE: Final = "3xx-6xx"
# Inputs: received by a server transaction
REQUEST: Final = "request"
"""The request again: a retransmission."""
ACK: Final = "ack"
CANCELLED: Final = "cancelled"
"""We sent a CANCEL for it."""
# Inputs: timers are named by their letter
ERROR: Final = "transport error"

# Actions
SEND: Final = "send"
"""The request, or the last response: again if need be."""
SEND_ACK: Final = "send ack"
"""The ACK for a final response that is not 2xx (17.1.1.3)."""
STOP: Final = "stop"
"""Stop the timers that run."""
PASS_UP: Final = "pass up"  # noqa: S105 - an action
TIMED_OUT: Final = "timed out"
"""Tell the transaction user that no answer came (17.1.1.2 timer B, 17.1.2.2 timer F)."""
FAILED: Final = "failed"
"""Tell the transaction user that the transport failed (17.1.4)."""

RETRANSMISSION_TIMERS: Final = frozenset("AEG")
WAITING_TIMERS: Final = frozenset("BDFHIJKLMX")
"""X is our name for the 64*T1 that a final answer to a cancelled INVITE may take (9.1)."""

START_INVITE_CLIENT: Final[Arrow] = ((SEND, "A", "B"), CALLING)
START_CLIENT: Final[Arrow] = ((SEND, "E", "F"), TRYING)
START_INVITE_SERVER: Final[Arrow] = ((), PROCEEDING)
START_SERVER: Final[Arrow] = ((), TRYING)

# RFC 3261 17.1.1.2 (figure 5) with RFC 6026 7.2 and 8.4 (Accepted, timer M)
INVITE_CLIENT: Final[Table] = {
    CALLING: {
        "A": ((SEND, "A"), CALLING),
        "B": ((STOP, TIMED_OUT), TERMINATED),
        PROVISIONAL: ((STOP, PASS_UP), PROCEEDING),
        SUCCESS: ((STOP, "M", PASS_UP), ACCEPTED),
        FAILURE: ((STOP, SEND_ACK, "D", PASS_UP), COMPLETED),
        ERROR: ((STOP, FAILED), TERMINATED),
    },
    PROCEEDING: {
        PROVISIONAL: ((PASS_UP,), PROCEEDING),
        SUCCESS: ((STOP, "M", PASS_UP), ACCEPTED),
        FAILURE: ((STOP, SEND_ACK, "D", PASS_UP), COMPLETED),
        CANCELLED: (("X",), PROCEEDING),
        "X": ((TIMED_OUT,), TERMINATED),
        # Not in the figure, as nothing is sent here; but a stream that ends takes the answer with it (18.4).
        ERROR: ((STOP, FAILED), TERMINATED),
    },
    COMPLETED: {
        FAILURE: ((SEND_ACK,), COMPLETED),
        "D": ((), TERMINATED),
        ERROR: ((STOP, FAILED), TERMINATED),
    },
    ACCEPTED: {
        # Each 2xx goes up: another one is another dialog, the same one wants its ACK again (13.2.2.4).
        SUCCESS: ((PASS_UP,), ACCEPTED),
        "M": ((), TERMINATED),
    },
    TERMINATED: {},
}

# RFC 3261 17.1.2.2 (figure 6)
CLIENT: Final[Table] = {
    TRYING: {
        "E": ((SEND, "E"), TRYING),
        "F": ((STOP, TIMED_OUT), TERMINATED),
        PROVISIONAL: ((PASS_UP,), PROCEEDING),
        SUCCESS: ((STOP, "K", PASS_UP), COMPLETED),
        FAILURE: ((STOP, "K", PASS_UP), COMPLETED),
        ERROR: ((STOP, FAILED), TERMINATED),
    },
    PROCEEDING: {
        "E": ((SEND, "E"), PROCEEDING),
        "F": ((STOP, TIMED_OUT), TERMINATED),
        PROVISIONAL: ((PASS_UP,), PROCEEDING),
        SUCCESS: ((STOP, "K", PASS_UP), COMPLETED),
        FAILURE: ((STOP, "K", PASS_UP), COMPLETED),
        ERROR: ((STOP, FAILED), TERMINATED),
    },
    COMPLETED: {
        "K": ((), TERMINATED),
    },
    TERMINATED: {},
}

# RFC 3261 17.2.1 (figure 7) with RFC 6026 7.1 and 8.5 (Accepted, timer L). RFC 6026 7.1: a transport error does not
# end an INVITE server transaction, its timers do; the user is told while it can still do something. Timer H is told
# to nobody: a missing ACK for a refusal changes nothing.
INVITE_SERVER: Final[Table] = {
    PROCEEDING: {
        REQUEST: ((SEND,), PROCEEDING),
        PROVISIONAL: ((SEND,), PROCEEDING),
        SUCCESS: ((SEND, "L"), ACCEPTED),
        FAILURE: ((SEND, "G", "H"), COMPLETED),
        ERROR: ((FAILED,), PROCEEDING),
    },
    COMPLETED: {
        REQUEST: ((SEND,), COMPLETED),
        ACK: ((STOP, "I"), CONFIRMED),
        "G": ((SEND, "G"), COMPLETED),
        "H": ((STOP,), TERMINATED),
        ERROR: ((), COMPLETED),
    },
    CONFIRMED: {
        "I": ((), TERMINATED),
    },
    ACCEPTED: {
        # A repeated INVITE is absorbed: the transaction user repeats its 2xx until the ACK comes (13.3.1.4).
        SUCCESS: ((SEND,), ACCEPTED),
        ACK: ((PASS_UP,), ACCEPTED),
        "L": ((), TERMINATED),
        ERROR: ((), ACCEPTED),
    },
    TERMINATED: {},
}

# RFC 3261 17.2.2 (figure 8)
SERVER: Final[Table] = {
    TRYING: {
        PROVISIONAL: ((SEND,), PROCEEDING),
        SUCCESS: ((SEND, "J"), COMPLETED),
        FAILURE: ((SEND, "J"), COMPLETED),
        # Not in the figure, as nothing is sent here; but after the end of the stream nothing can be.
        ERROR: ((), TERMINATED),
    },
    PROCEEDING: {
        REQUEST: ((SEND,), PROCEEDING),
        PROVISIONAL: ((SEND,), PROCEEDING),
        SUCCESS: ((SEND, "J"), COMPLETED),
        FAILURE: ((SEND, "J"), COMPLETED),
        ERROR: ((), TERMINATED),
    },
    COMPLETED: {
        REQUEST: ((SEND,), COMPLETED),
        "J": ((), TERMINATED),
        ERROR: ((STOP,), TERMINATED),
    },
    TERMINATED: {},
}
