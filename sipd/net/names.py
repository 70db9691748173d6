"""What the name service says: DNS by dnspython, and before it the hosts file, which dnspython does not read."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from sipd.net.threads import DaemonThreads

TRY_SECONDS = 1.5
"""For one answer of one name server; then the next is asked, or the same again."""
QUESTION_SECONDS = 4.0
"""For one question altogether."""
CHAIN_LIMIT = 8
"""CNAMEs followed from answer to answer; within one answer dnspython follows 16."""
RECORD_LIMIT = 32
"""Records taken of one answer."""
QUESTIONS_LIMIT = 200
"""Questions under way at one time; further ones wait."""
HOSTS_BYTES = 1024 * 1024
"""A larger hosts file is not read."""
HOSTS_TTL = 60.0
"""Seconds for which what the hosts file or the system says is used: neither has a time of its own."""
PARTIAL_TTL = 30.0
"""The same for an answer that lacks what a name server failed to say."""
LOOPBACK = ("127.0.0.1", "::1")
THREADS = 4
HOSTS, RESOLV_CONF = Path("/etc/hosts"), Path("/etc/resolv.conf")


class NamesFailed(Exception):
    """The name service did not say whether the name has such records."""


class Records(NamedTuple):
    """Records of one type; none: the name has none, or is unknown."""

    records: tuple[Any, ...]
    """As dnspython has them; of `addresses`: texts."""
    ttl: float
    """Seconds: the lowest of the chain, or how long there is nothing (RFC 2308)."""


NameServer = tuple[str, int]
"""Address and port."""


class Names:
    """Asks the system's name servers, or `servers` in their place."""

    def __init__(self, servers: Sequence[NameServer] = ()) -> None:
        self._servers = tuple(servers)
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._resolver_of: tuple[int, int] | None = None
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._hosts_of: tuple[int, int] | None = None
        self._slots = asyncio.Semaphore(QUESTIONS_LIMIT)
        self._threads = DaemonThreads(THREADS, "resolve")

    def close(self) -> None:
        self._threads.shutdown()

    # -- hosts file

    def in_hosts(self, host: str) -> tuple[str, ...]:
        """Addresses that the hosts file gives; localhost is loopback with or without it (RFC 6761 6.3)."""
        stamp = _stamp(HOSTS)
        if stamp != self._hosts_of:
            self._hosts_of, self._hosts = stamp, read_hosts(HOSTS)
        host = host.lower().rstrip(".")
        found = self._hosts.get(host, ())
        return found or (LOOPBACK if host == "localhost" or host.endswith(".localhost") else ())

    # -- DNS

    async def records(self, name: str, kind: str) -> Records:
        """The records of one type. Raises NamesFailed."""
        lowest = float("inf")
        for _ in range(CHAIN_LIMIT):
            answer = await self._ask(name, kind)
            if isinstance(answer, Records):
                return answer._replace(ttl=min(answer.ttl, lowest))
            lowest = min(lowest, float(answer.chaining_result.minimum_ttl))
            if answer.rrset is not None:
                return Records(tuple(answer.rrset)[:RECORD_LIMIT], lowest)
            if not answer.chaining_result.cnames:
                return Records((), lowest)
            name = answer.canonical_name.to_text()  # the server left the rest of the chain to us
        return Records((), lowest)

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer | Records:
        resolver = self._current()
        if resolver is None:
            return Records((), 0.0)  # a machine without name servers: the system may know more
        try:
            # A name without a dot is completed by the system's search list, others never are.
            asked = dns.name.from_text(name, None if "." not in name else dns.name.root)
        except (dns.exception.DNSException, UnicodeError):
            return Records((), HOSTS_TTL)
        try:
            async with self._slots:
                return await resolver.resolve(
                    asked, kind, raise_on_no_answer=False, search=not asked.is_absolute(), lifetime=QUESTION_SECONDS
                )
        except dns.resolver.NXDOMAIN as unknown:
            return Records((), _negative_ttl(unknown))
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise NamesFailed(f"{kind} of {name}: {type(error).__name__}") from error

    def _current(self) -> dns.asyncresolver.Resolver | None:
        """The resolver of the system's configuration as it is now, which may have changed."""
        stamp = None if self._servers else _stamp(RESOLV_CONF)
        if self._resolver is None or stamp != self._resolver_of:
            self._resolver_of = stamp
            try:
                self._resolver = dns.asyncresolver.Resolver(configure=not self._servers)
            except (dns.resolver.NoResolverConfiguration, OSError):
                self._resolver = None
                return None
            if self._servers:
                self._resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
            self._resolver.timeout = TRY_SECONDS
        return self._resolver

    # -- addresses

    async def addresses(self, host: str, families: Sequence[int]) -> Records:
        """Addresses of a host in these families (4, 6), those that can be routed to first. Raises NamesFailed."""
        known = self.in_hosts(host)
        if known:
            return Records(_sorted(known, families), HOSTS_TTL)
        kinds = [kind for family, kind in ((6, "AAAA"), (4, "A")) if family in families]
        answers = await asyncio.gather(*(self.records(host, kind) for kind in kinds), return_exceptions=True)
        good = [answer for answer in answers if isinstance(answer, Records)]
        found = [record.address for answer in good for record in answer.records]
        if found:
            ttl = min(answer.ttl for answer in good if answer.records)
            return Records(_sorted(found, families), ttl if len(good) == len(answers) else min(ttl, PARTIAL_TTL))
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return await self._by_system(host, families) or Records((), min((a.ttl for a in good), default=HOSTS_TTL))

    async def _by_system(self, host: str, families: Sequence[int]) -> Records | None:
        """What DNS does not know may be in another of the system's sources, such as mDNS."""
        if self._servers:
            return None
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, system_addresses, host)
        except (OSError, UnicodeError):
            return None
        return Records(_sorted(found, families), HOSTS_TTL) if found else None


def system_addresses(host: str) -> list[str]:
    """By the C library; blocks. Raises OSError or UnicodeError."""
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)]


def read_hosts(path: Path) -> dict[str, tuple[str, ...]]:
    """Addresses by lower-case name; nothing if it cannot be read."""
    found: dict[str, tuple[str, ...]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(HOSTS_BYTES + 1)
    except OSError:
        return found
    if len(text) > HOSTS_BYTES:
        return found
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if family_of(address):
            for name in names:
                found[name.lower()] = (*found.get(name.lower(), ()), address)
    return found


def _sorted(addresses: Sequence[str], families: Sequence[int]) -> tuple[str, ...]:
    """Each once; IPv6 before IPv4, but what there is no route to comes last (RFC 6724, RFC 7984)."""
    mine = dict.fromkeys(address for address in addresses if family_of(address) in families)
    return tuple(sorted(mine, key=lambda address: (not _routed(address), family_of(address) == 4)))[:RECORD_LIMIT]


def family_of(address: str) -> int:
    """4, 6, or 0 for what is no address; one with a zone is none that a peer could be told of."""
    try:
        return 0 if "%" in address else ipaddress.ip_address(address).version
    except ValueError:
        return 0


def _routed(address: str) -> bool:
    """Whether this machine has a route there; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((address, 9))
    except OSError:
        return False
    return True


def _negative_ttl(unknown: dns.resolver.NXDOMAIN) -> float:
    """RFC 2308 5: of the SOA in the answer."""
    responses = unknown.kwargs.get("responses", {}).values()
    try:
        return min((float(r.resolve_chaining().minimum_ttl) for r in responses), default=HOSTS_TTL)
    except dns.exception.DNSException:
        return HOSTS_TTL


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
