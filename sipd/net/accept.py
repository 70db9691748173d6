"""Taking connections on a listening socket, also when there is no descriptor left for one."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable

from sipd.net import limits

log = logging.getLogger("sipd.net.accept")

SHORT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""The process, or the system, has no descriptor or no memory for one more."""


class Acceptor:
    """`take` gets each new connection, not blocking. `short` is told of each that there was no descriptor for.

    One descriptor is kept in reserve: with it such a connection is taken and closed, so that its peer knows at once
    and tries elsewhere. Then nothing is taken for a while, as the socket would be ready again and again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        take: Callable[[socket.socket], None],
        short: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._take = take
        self._short = short
        self._reserve = _reserved()
        self._pausing: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen from now on. Raises OSError."""
        self._sock.listen(limits.BACKLOG)
        self._go_on()

    def close(self) -> None:
        """Take no more, and close the socket."""
        if self._pausing is not None:
            self._pausing.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._give_reserve()

    def _go_on(self) -> None:
        self._pausing = None
        if self._reserve is None:
            self._reserve = _reserved()
        self._loop.add_reader(self._sock, self._ready)

    def _ready(self) -> None:
        for _ in range(limits.ACCEPT_BATCH):
            try:
                self._accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in SHORT:
                    self._refuse()
                self._pause(error)
                return

    def _accept(self) -> None:
        sock, _ = self._sock.accept()
        sock.setblocking(False)
        self._take(sock)

    def _refuse(self) -> None:
        """Close what waits, as many as in one turn."""
        self._give_reserve()
        try:
            for _ in range(limits.ACCEPT_BATCH):
                sock, _ = self._sock.accept()
                sock.close()
                self._short()
        except OSError:  # none waits any more, or somebody else took the descriptor
            pass
        self._reserve = _reserved()

    def _give_reserve(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def _pause(self, error: OSError) -> None:
        log.warning("no connection can be taken now seconds=%g error=%r", limits.ACCEPT_PAUSE_SECONDS, error.strerror)
        self._loop.remove_reader(self._sock)
        self._pausing = self._loop.call_later(limits.ACCEPT_PAUSE_SECONDS, self._go_on)


def _reserved() -> int | None:
    """A descriptor of nothing; None when there is none."""
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None
