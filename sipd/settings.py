"""What a node is told at start; the table says everything else."""

from __future__ import annotations

from dataclasses import dataclass

from sipd.flow import DEFAULT_PORTS, Flow, Listener


@dataclass(frozen=True, slots=True)
class Settings:
    """All times are seconds."""

    listeners: tuple[Listener, ...]
    node: str = "sipd"
    user_agent: str = "Tenantry"

    min_expires: int = 60
    """A phone that asks for less gets 423 (RFC 3261 10.3)."""
    max_expires: int = 3600
    """A phone that asks for more gets this."""
    default_expires: int = 3600

    nat_ping: float = 30.0
    """How often a phone behind NAT is asked with OPTIONS over UDP, to keep the way to it open; 0: never."""
    flow_timer: int = 120
    """How often a phone with flows of its own is to send a keep-alive over a stream (RFC 5626 5.4)."""
    flow_timer_udp: int = 28
    """The same over UDP (RFC 5626 4.4.2: 24 to 29 seconds)."""

    digest: tuple[str, ...] = ("MD5", "SHA-256")
    """Algorithms that phones are challenged with, in this order, and no others (RFC 8760 2.4).

    MD5 first: clients that look at the first challenge only are many (docs/decisions/0010)."""
    md5_only_agents: tuple[str, ...] = ("baresip v0", "baresip v1", "sipsak", "aiosip/")
    """Parts of User-Agent, lower-case, of clients that give up when any challenge is not MD5."""
    nonce_life: float = 300.0
    nonce_memory: int = 100_000
    """Nonces whose counter is remembered, the newest."""

    upstream_rate: float = 50.0
    """Registrations sent per second to one PBX address; the answer to a challenge is part of one."""
    upstream_total_rate: float = 500.0
    """Registrations sent per second by the node, to all PBXs."""
    retry_first: float = 5.0
    """First wait after an upstream failure; doubles up to `retry_cap`."""
    retry_cap: float = 600.0
    options_interval: float = 30.0
    """How often each PBX address in use is asked with OPTIONS whether it is there; 0: never."""

    mute_after: int = 20
    """Failures of one stranger (an address, or an IPv6 /64) at once before it is banned."""
    mute_window: float = 60.0
    """The time in which so many failures are forgiven."""
    mute_time: float = 60.0
    """The first ban; each further one is twice as long."""
    ban_longest: float = 3600.0
    ban_forget: float = 21_600.0
    """Good behaviour after which the next ban is a first one."""
    register_rate: float = 50.0
    """REGISTER requests a second from one address, on average."""
    register_burst: int = 3000
    """And at once: an office of 500 phones behind one address registers anew after a power cut."""
    request_rate: float = 50.0
    """Other requests outside a dialog."""
    request_burst: int = 1000
    pbx_rate: float = 1000.0
    """Requests outside a dialog from one PBX's address."""
    pbx_burst: int = 5000
    tenant_register_rate: float = 200.0
    """Authenticated REGISTER requests of one tenant."""
    tenant_register_burst: int = 10_000
    tenant_request_rate: float = 200.0
    """Other authenticated requests of one tenant outside a dialog."""
    tenant_request_burst: int = 2000
    tenant_failure_rate: float = 5.0
    """Wrong credentials for one tenant, from all sources together, that get an answer."""
    tenant_failure_burst: int = 500

    trace: bool = True
    """Whether messages and decisions are kept for people (`sipd.trace`)."""
    trace_sample: float = 1.0
    """Share of calls that are traced, 0 to 1."""

    media: tuple[str, ...] = ()
    """Media relays, as `udp:192.0.2.1:2223`."""
    media_ping: float = 5.0
    """How often each is asked whether it is there."""
    metrics_tenants: int = 100
    """Tenants that have metrics of their own; the others are counted together."""

    caller_timeout: float = 180.0
    """Timer C (RFC 3261 16.6): an outbound call without any answer newer than this ends."""
    max_forward_hops: int = 5
    """Forwards followed in one call."""
    session_expires: int = 1800
    """Session interval that is asked for where the caller asks for none, and the longest (RFC 4028)."""
    session_min: int = 90
    """An INVITE or UPDATE that asks for less gets 422 (RFC 4028 4: 90 at least)."""
    session_probe: float = 600.0
    """How often the ends of a call without session timer are asked with OPTIONS whether they still know it."""
    refer_life: float = 180.0
    """How long the NOTIFYs of a transfer may take from one to the next after their dialog ended (RFC 3515 2.4.4)."""
    zombie_time: float = 32.0
    """How long an ended dialog still passes NOTIFYs on (RFC 5057)."""
    zombie_longest: float = 600.0
    """However many of a transfer still come."""

    def flow_to(self, host: str, port: int, transport: str, preferred: int = 0) -> Flow | None:
        """The flow to an address, from the preferred listener if that will do; None when none will.

        Port 0 is the transport's own. A ws or wss flow leads somewhere only while its phone is connected (RFC 7118).
        """
        port = port or DEFAULT_PORTS.get(transport, 0)
        second = None
        for number in (preferred, *range(len(self.listeners))):
            listener = self.listeners[number] if number < len(self.listeners) else None
            if listener is None or listener.transport != transport or (":" in listener.host) != (":" in host):
                continue
            if _is_loopback(listener.host) == _is_loopback(host):
                return Flow(transport, host, port, number)
            if second is None:  # the system has no route between this machine's own address and others
                second = Flow(transport, host, port, number)
        return second

    @property
    def own_hosts(self) -> frozenset[str]:
        """Every name and address by which the edge itself can be addressed."""
        hosts = {h for li in self.listeners for h in (li.host, li.advertised_host)}
        return frozenset(h.lower() for h in hosts if h not in ("0.0.0.0", "::"))  # noqa: S104 - compared


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
