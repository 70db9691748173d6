"""What is listened on: sockets bound before the loop runs, and how others reach them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from sipd.config import Address, Config, ConfigError, ListenOn, advertised_of
from sipd.flow import Listener, shown
from sipd.message.grammar import bracketed
from sipd.net.streams import bind_tcp
from sipd.net.udp import bind_udp


def bind_all(listen: Sequence[ListenOn]) -> list[socket.socket]:
    """A bound socket for each listener, in order. Raises ConfigError."""
    sockets: list[socket.socket] = []
    for transport, (host, port), _ in listen:
        try:
            sockets.append((bind_udp if transport == "udp" else bind_tcp)(host, port))
            if transport != "udp":
                sockets[-1].listen()
        except OSError as error:
            for sock in sockets:
                sock.close()
            raise ConfigError(unusable("listen", shown((transport, host, port)), error)) from error
    return sockets


def bind_metrics(address: Address | None, others: Sequence[socket.socket]) -> socket.socket | None:
    """The socket of `--metrics`; None: nobody may ask. Raises ConfigError, with the `others` closed."""
    if address is None:
        return None
    host, port = address
    try:
        return bind_tcp(host, port)
    except OSError as error:
        for sock in others:
            sock.close()
        raise ConfigError(unusable("metrics", f"{bracketed(host)}:{port}", error)) from error


def unusable(name: str, value: str, error: OSError) -> str:
    """Why an address cannot be listened on, and what to do."""
    advice = {
        errno.EADDRINUSE: "the port is in use; stop the program that has it (ss -lnptu shows it), or take another port",
        errno.EADDRNOTAVAIL: "this machine has no such address; ip address shows those that it has",
        errno.EACCES: "that is not allowed; ports below 1024 need the capability CAP_NET_BIND_SERVICE",
    }
    return f'{name} "{value}": {advice.get(error.errno or 0, error.strerror or str(error))}.'


def advertised(config: Config, sockets: Sequence[socket.socket]) -> tuple[Listener, ...]:
    """The listeners as the core knows them, with the ports that were really bound."""
    listeners = []
    for one, sock in zip(config.listen, sockets, strict=True):
        port = int(sock.getsockname()[1])
        public = advertised_of(one, config.advertise_host, config.advertise_port)
        host = one.address.host
        listeners.append(Listener(one.transport, host, port, public.host or host, public.port or port))
    return tuple(listeners)
