"""Every limit of the stream transports, in one place; docs/limits.md says them in words. Times are seconds.

Those of one message (bytes, header lines, bytes of a line) are `sipd.message.scanner.Limits`.
"""

from __future__ import annotations

from typing import Final

CONNECTION_LIMIT = 20_000
"""Open connections in both directions. A further inbound one is closed at once, a further outgoing one fails."""
SOURCE_LIMIT = 1000
"""Inbound connections from one address; a further one is closed at once."""
OPENING_LIMIT = 500
"""Connections being opened at one time; a further one fails at once."""
QUEUE_LIMIT = 100
"""Messages that wait for one connection to open; further ones are dropped and counted."""
WRITE_BYTES = 1024 * 1024
"""Unsent bytes of one connection; a peer that reads so slowly is cut."""
CONNECT_SECONDS = 5.0
"""For an outgoing connection to be usable, its TLS handshake included."""
HANDSHAKE_SECONDS = 10.0
"""For the TLS and WebSocket handshakes of an inbound connection, both together; after that it is cut."""
HANDSHAKE_BYTES = 16 * 1024
"""Of the HTTP request that asks for a WebSocket; a longer one is answered 431 and the connection is closed."""
FIRST_MESSAGE_SECONDS = 30.0
"""An inbound connection that has sent nothing whole by then is cut."""
MESSAGE_SECONDS = 15.0
"""A message that is not complete by then cuts its connection, however steadily it trickles."""
WS_MESSAGE_BYTES = 128 * 1024
"""Of one WebSocket message, all fragments together; a longer one closes the connection with code 1009. Below that a
SIP message that is too large gets its 513, and the connection stays."""
IDLE_SECONDS = 3900.0
"""A connection on which nothing comes or goes: longer than an hour, the usual expiry of a phone's binding."""
WS_PING_SECONDS = 30.0
"""A WebSocket on which nothing came for so long gets a ping: browsers send none, and proxies cut what is silent."""
UNACKED_MS = 30_000
"""Milliseconds for the peer's host to acknowledge what was sent, before the system gives the connection up."""
CLOSE_SECONDS = 0.3
"""For streams to take what is in their buffers when the daemon stops."""
LINGER_SECONDS = 2.0
"""For the peer to read the answer to a broken message before the connection is cut."""
SWEEP_SECONDS = 1.0
"""How often the times above are looked at."""
BACKLOG: Final = 1024
ACCEPT_BATCH = 64
"""Connections taken in one turn of the loop; further ones wait for the next."""
ACCEPT_PAUSE_SECONDS = 1.0
"""Without a descriptor for one more, none is taken for so long."""
