"""What the daemon is told at start: flags over environment over file over defaults."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sipd import tuning
from sipd.flow import SECURE, TRANSPORTS
from sipd.logs import FORMATS
from sipd.net.tls import Files, Pair
from sipd.redact import BODIES
from sipd.routing.seal import KEY_BYTES
from sipd.settings import Settings
from sipd.traces import KEEPING, Keeping

TOKEN_CHARACTERS = 16
"""Shortest token of the control channel that is accepted."""
LISTENER_LIMIT = 64
DRAIN_LIMIT = 86_400
"""Most seconds that a stop may wait for calls."""
CERTIFICATE_LIMIT = 1000
ORIGIN_LIMIT = 1000
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
DIGESTS = ("SHA-256", "MD5")
NO_FILES = Files()
LEVELS = ("debug", "info", "warning", "error")

TEXTS: Mapping[str, str] = {
    "advertise": "",
    "state": "sipd-state",
    "control": "",
    "control_tcp": "",
    "control_token_file": "",
    "control_certificate": "",
    "control_plain": "off",
    "key_file": "",
    "node": "",
    "digest": "MD5,SHA-256",
    "log_level": "info",
    "log_format": "logfmt",
    "log_calls": "off",
    "metrics": "",
    "metrics_token_file": "",
    "tls_authorities": "",
    "tls_client_authorities": "",
    "tls_client_certificate": "",
    "trace": "on",
    "trace_sample": "1",
    "trace_bodies": "sdp",
    "trace_megabytes": "256",
    "trace_days": "7",
    "drain": "30",
}
"""Settings that are one text each, with their defaults."""
LISTEN = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")
DNS_SERVER_LIMIT = 8
MEDIA_LIMIT = 64
LISTS: Mapping[str, tuple[str, int]] = {
    "listen": ("udp:127.0.0.1:5060", LISTENER_LIMIT),
    "tls_certificate": ("/etc/tenantry/edge.pem", CERTIFICATE_LIMIT),
    "ws_origin": ("https://phone.example.com", ORIGIN_LIMIT),
    "dns_server": ("127.0.0.1:53", DNS_SERVER_LIMIT),
    "media": ("udp:127.0.0.1:2223", MEDIA_LIMIT),
    "set": ("session_expires=1800", tuning.LIMIT),
}
"""Settings that are lists of texts: an example of one, and how many are taken."""


class ConfigError(ValueError):
    """A setting that cannot be used; a sentence that names it, its value and what to do."""


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose."""

    host: str
    """IP address, IPv6 without brackets."""
    port: int


class Advertised(NamedTuple):
    """What others reach a listener by: Via, Contact and Record-Route say so."""

    host: str
    """Name or IP address, IPv6 without brackets; empty: as listened on."""
    port: int
    """0: as listened on."""


class ListenOn(NamedTuple):
    """One `--listen`."""

    transport: str
    address: Address
    advertised: Advertised = Advertised("", 0)


@dataclass(frozen=True, slots=True)
class Config:
    """The daemon's settings, checked as far as that is possible without touching sockets."""

    listen: tuple[ListenOn, ...]
    advertise_host: str
    """What others reach us by; empty: each listener's own address."""
    advertise_port: int
    """0: each listener's own port."""
    state: Path
    """Directory."""
    control: Path
    """Unix socket."""
    control_tcp: Address | None
    control_token_file: Path | None
    key_file: Path
    node: str
    log_level: str
    log_format: str = "logfmt"
    log_calls: bool = False
    """Whether calls have lines in the log."""
    metrics: Address | None = None
    """Where metrics and health are served over HTTP."""
    metrics_token_file: Path | None = None
    control_certificate: Pair | None = None
    """What `control_tcp` shows; None: it speaks without TLS."""
    digest: tuple[str, ...] = DIGESTS
    """Algorithms that phones are challenged with, in this order."""
    tls: Files = NO_FILES
    """Certificates of ours and authorities."""
    ws_origins: tuple[str, ...] = ()
    """Values of Origin that WebSockets may come with; none: any."""
    dns_servers: tuple[Address, ...] = ()
    """Name servers in place of the system's."""
    media: tuple[Address, ...] = ()
    """Media relays."""
    trace: bool = True
    """Whether calls are traced at all."""
    trace_sample: float = 1.0
    """Share of calls, 0 to 1."""
    keeping: Keeping = KEEPING
    """How much of the traces is on disk."""
    drain: float = 30.0
    """Seconds that calls in progress may go on after a signal to stop; 0: it stops at once."""
    tuned: Mapping[str, float | str] = field(default_factory=dict)
    """Fields of `Settings` that are set."""


def load(flags: Mapping[str, object], environment: Mapping[str, str]) -> Config:
    """The settings in force. `flags` holds those given on the command line; `config` names the TOML file.

    Raises ConfigError.
    """
    file = flags.get("config") or environment.get("TENANTRY_CONFIG")
    from_file = read_toml(Path(str(file))) if file else {}
    found = {name: _first(name, flags, environment, from_file, default) for name, default in TEXTS.items()}
    lists = {name: _texts(name, flags, environment, from_file) for name in LISTS}
    return _checked(_listen(lists["listen"] or LISTEN), found, lists)


def find_control(flags: Mapping[str, object], environment: Mapping[str, str]) -> Path:
    """The control socket of the node with these settings, for commands that ask it. Raises ConfigError."""
    return _find("control", "control.sock", flags, environment)


def find_key(flags: Mapping[str, object], environment: Mapping[str, str]) -> Path:
    """The installation's key, as the node with these settings finds it. Raises ConfigError."""
    return _find("key_file", "key", flags, environment)


def _find(name: str, in_state: str, flags: Mapping[str, object], environment: Mapping[str, str]) -> Path:
    file = flags.get("config") or environment.get("TENANTRY_CONFIG")
    from_file = read_toml(Path(str(file))) if file else {}
    said = _first(name, flags, environment, from_file, "")
    return Path(said or Path(_first("state", flags, environment, from_file, TEXTS["state"])) / in_state)


def read_toml(path: Path) -> dict[str, object]:
    """The file's settings; unknown names are refused. Raises ConfigError."""
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"The configuration {path} is no TOML: {error}.") from error
    for name, value in read.items():
        if name in LISTS:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ConfigError(f'{path}: "{name}" takes a list of texts, such as ["{LISTS[name][0]}"].')
        elif name not in TEXTS:
            known = ", ".join((*LISTS, *TEXTS))
            raise ConfigError(f'{path}: "{name}" is no setting; the settings are {known}.')
        elif not isinstance(value, str):
            raise ConfigError(f'{path}: "{name}" takes a text in quotes, not {value!r}.')
    return read


def parse_listen(text: str) -> ListenOn:
    """`udp:127.0.0.1:5060`, `tls:[::1]:5061`, or with how others reach it: `tls:0.0.0.0:5061=203.0.113.7:5061`.

    Raises ConfigError.
    """
    where, equals, public = text.partition("=")
    transport, colon, rest = where.partition(":")
    if not colon or transport not in TRANSPORTS:
        raise ConfigError(
            f'listen "{text}" does not begin with {", ".join(TRANSPORTS[:-1])} or {TRANSPORTS[-1]}; '
            "write it like udp:127.0.0.1:5060."
        )
    if equals and not public:
        raise ConfigError(f'listen "{text}" has nothing after =; write it like tls:0.0.0.0:5061=203.0.113.7:5061.')
    advertised = parse_advertise(public, "listen", text)
    return ListenOn(transport, parse_address(rest, "listen", text), advertised)


def parse_address(text: str, name: str, whole: str | None = None) -> Address:
    """`127.0.0.1:5060` or `[::1]:5060`, for the setting `name`. Raises ConfigError."""
    whole = whole or text
    host, colon, port = text.rpartition(":")
    if not colon or not _is_port(port):
        raise ConfigError(f'{name} "{whole}" has no port from 0 to 65535 at its end; write it like 127.0.0.1:5060.')
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not is_address(host):
        raise ConfigError(f'{name} "{whole}" has no IP address before the port; IPv6 goes in brackets: [::1]:5060.')
    return Address(host, int(port))


def parse_dns_server(text: str) -> Address:
    """`192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53`, `[2001:db8::53]:5353`. Raises ConfigError."""
    bare = text.removeprefix("[").removesuffix("]")
    found = Address(bare, 53) if is_address(bare) else parse_address(text, "dns-server")
    if not found.port:
        raise ConfigError(f'dns-server "{text}" has port 0; leave the port out for 53, or name the one it listens on.')
    return found


def parse_media(texts: Sequence[str]) -> tuple[Address, ...]:
    """`udp:127.0.0.1:2223` or `udp:[2001:db8::7]:2223` each. Raises ConfigError."""
    found: list[Address] = []
    for text in texts:
        transport, _, rest = text.partition(":")
        if transport != "udp":
            raise ConfigError(f'media "{text}" does not begin with udp; write it like udp:127.0.0.1:2223.')
        one = parse_address(rest, "media", text)
        if not one.port or one.host in WILDCARDS:
            raise ConfigError(f'media "{text}" is nowhere to send to; give the address and port of --listen-ng.')
        if one in found:
            raise ConfigError(f'media "{text}" is given twice; remove one.')
        found.append(one)
    return tuple(found)


def parse_advertise(text: str, name: str = "advertise", whole: str | None = None) -> Advertised:
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT` or a bare IPv6 address, for the setting `name`. Raises ConfigError."""
    if is_address(text) or not text:
        return Advertised(text, 0)
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "0"
    host = host.removeprefix("[").removesuffix("]")
    if not _is_port(port) or not (is_address(host) or _is_name(host)):
        raise ConfigError(
            f'{name} "{whole or text}": "{text}" is no host or host:port; '
            "write it like sip.example.com or 192.0.2.1:5060."
        )
    return Advertised(host.lower(), int(port))


def advertised_of(one: ListenOn, host: str, port: int) -> Advertised:
    """How others reach a listener: what it says itself, else the node's default, else its own address.

    A default that is an address of the other family says nothing about it, and the default's port is that of
    UDP and TCP: other transports have ports of their own.
    """
    if one.advertised.host:
        return one.advertised
    if not host or (is_address(host) and (":" in host) != (":" in one.address.host)):
        return Advertised("", 0)
    return Advertised(host, port if one.transport in ("udp", "tcp") else 0)


def parse_pair(text: str, name: str) -> Pair:
    """`CHAIN`, or `CHAIN=KEY` when the key is in a file of its own. Raises ConfigError."""
    chain, equals, key = text.partition("=")
    if not chain or (equals and not key):
        raise ConfigError(
            f'{name.replace("_", "-")} "{text}" names no file; write it like chain.pem or chain.pem=key.pem.'
        )
    return Pair(Path(chain), Path(key or chain))


def parse_digest(text: str) -> tuple[str, ...]:
    """`SHA-256,MD5`, `MD5`: algorithms in the order of their preference. Raises ConfigError."""
    names = tuple(text.upper().replace(",", " ").split())
    if not names or not set(names) <= set(DIGESTS) or len(set(names)) < len(names):
        raise ConfigError(f'digest "{text}" is no list of {" and ".join(DIGESTS)}; write it like SHA-256,MD5 or MD5.')
    return names


def parse_switch(name: str, text: str) -> bool:
    """`on` or `off`. Raises ConfigError."""
    if text not in ("on", "off"):
        raise ConfigError(f'{name} "{text}" is neither on nor off.')
    return text == "on"


def parse_tuned(texts: Sequence[str]) -> dict[str, float | str]:
    """`session_expires=1800` and the like. Raises ConfigError."""
    defaults = Settings(())
    try:
        return tuning.parse(texts, {name: getattr(defaults, name) for name in tuning.NUMBERS})
    except tuning.TuningError as error:
        raise ConfigError(str(error)) from error


def parse_keeping(found: Mapping[str, str]) -> Keeping:
    """The settings of traces on disk. Raises ConfigError."""
    bodies = found["trace_bodies"]
    if bodies not in BODIES:
        raise ConfigError(f'trace_bodies "{bodies}" is none of {", ".join(BODIES)}.')
    megabytes = parse_number("trace_megabytes", found["trace_megabytes"], 0, 1_000_000)
    return Keeping(int(megabytes), parse_number("trace_days", found["trace_days"], 0, 3650), bodies)


def parse_number(name: str, text: str, low: float, high: float) -> float:
    """A number in its range. Raises ConfigError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not low <= value <= high:
        raise ConfigError(f'{name} "{text}" is no number from {low:g} to {high:g}.')
    return value


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, IPv6 without brackets and zone."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def read_key(path: Path) -> bytes:
    """The installation's key from its file. Raises ConfigError, which never quotes what the file holds."""
    if not path.is_file():
        raise ConfigError(
            f"The key file {path} does not exist. Copy it from where the panel has it, "
            f"or make a new one for a new installation: python -m sipd key {path}"
        )
    try:
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise ConfigError(f"The key file {path} cannot be read: {error.strerror}.") from error
    except binascii.Error as error:
        raise ConfigError(f"The key file {path} is not base64; make a new one: python -m sipd key FILE") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"The key file {path} holds {len(key)} bytes; it takes {KEY_BYTES}. Make a new one: python -m sipd key FILE"
        )
    return key


def write_key(path: Path) -> None:
    """Make a new key file, readable by its owner only. Raises ConfigError; never replaces a file."""
    text = base64.b64encode(os.urandom(KEY_BYTES)) + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(
            f"{path} exists; a key is never replaced, as the secrets sealed with it would be lost."
        ) from error
    except OSError as error:
        raise ConfigError(f"The key file {path} cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)


def read_token(path: Path) -> str:
    """The token of the control channel from its file. Raises ConfigError."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"The token file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"The token file {path} holds more than ASCII text.") from error
    if len(token) < TOKEN_CHARACTERS:
        raise ConfigError(
            f"The token in {path} has {len(token)} characters; it takes {TOKEN_CHARACTERS} or more. "
            f"Make one: openssl rand -hex 32 > {path}"
        )
    return token


def _first(
    name: str, flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object], default: str
) -> str:
    for value in (flags.get(name), environment.get(f"TENANTRY_{name.upper()}"), file.get(name)):
        if value is not None and value != "":
            return str(value)
    return default


def _texts(
    name: str, flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object]
) -> list[str]:
    """A setting that is a list; variables separate by spaces or commas. Raises ConfigError."""
    in_environment = environment.get(f"TENANTRY_{name.upper()}", "").replace(",", " ").split()
    for texts in (flags.get(name), in_environment, file.get(name)):
        if isinstance(texts, list) and texts:
            break
    else:
        return []
    limit = LISTS[name][1]
    if len(texts) > limit:
        raise ConfigError(f"{name.replace('_', '-')} is given {len(texts)} times; the limit is {limit}. Give fewer.")
    return [str(text) for text in texts]


def _listen(texts: Sequence[str]) -> tuple[ListenOn, ...]:
    listen = tuple(parse_listen(text) for text in texts)
    for number, one in enumerate(listen):
        if one.address.port and one[:2] in [other[:2] for other in listen[:number]]:
            raise ConfigError(f'listen "{texts[number]}" is given twice; remove one.')
    return listen


def _check_listen(listen: Sequence[ListenOn], host: str, port: int, tls: Files) -> None:
    """Each listener has an address that can be answered to, and a certificate if it needs one. Raises ConfigError."""
    for one in listen:
        public = advertised_of(one, host, port).host or one.address.host
        if public in WILDCARDS:
            raise ConfigError(
                f'listen "{one.address.host}" is every address of this machine, which no peer can answer to; '
                "say how others reach it: --advertise HOST[:PORT], or --listen ...=HOST[:PORT]"
            )
        if one.transport in SECURE and not tls.server:
            raise ConfigError(f"listen {one.transport} needs a certificate: name its file with --tls-certificate FILE")


def _files(found: Mapping[str, str], certificates: Sequence[str]) -> Files:
    def path(name: str) -> Path | None:
        return Path(found[name]) if found[name] else None

    client = found["tls_client_certificate"]
    return Files(
        server=tuple(parse_pair(text, "tls_certificate") for text in certificates),
        client_authorities=path("tls_client_authorities"),
        authorities=path("tls_authorities"),
        client=parse_pair(client, "tls_client_certificate") if client else None,
    )


def _control_tcp(found: Mapping[str, str]) -> Address | None:
    """Where the control channel listens on TCP: with a token, and with TLS unless nobody else can read along.

    Raises ConfigError.
    """
    plain, text = parse_switch("control-plain", found["control_plain"]), found["control_tcp"]
    if not text:
        return None
    address = parse_address(text, "control-tcp")
    if not found["control_token_file"]:
        raise ConfigError("control-tcp needs a token: name its file with --control-token-file FILE")
    if not (found["control_certificate"] or plain or ipaddress.ip_address(address.host).is_loopback):
        raise ConfigError(
            f'control-tcp "{text}" would send the token and all secrets where others can read them; name a certificate '
            "with --control-certificate CHAIN[=KEY], or, in a network of your own, allow it with --control-plain on."
        )
    return address


def _checked(listen: tuple[ListenOn, ...], found: Mapping[str, str], lists: Mapping[str, Sequence[str]]) -> Config:
    host, port = parse_advertise(found["advertise"])
    tls = _files(found, lists["tls_certificate"])
    _check_listen(listen, host, port, tls)
    state = Path(found["state"])
    level = found["log_level"].lower()
    if level not in LEVELS:
        raise ConfigError(f'log-level "{level}" is none of {", ".join(LEVELS)}.')
    if found["log_format"] not in FORMATS:
        raise ConfigError(f'log-format "{found["log_format"]}" is none of {", ".join(FORMATS)}.')
    return Config(
        listen=listen,
        advertise_host=host,
        advertise_port=port,
        state=state,
        control=_control(found, state),
        control_tcp=_control_tcp(found),
        control_certificate=(
            parse_pair(found["control_certificate"], "control_certificate") if found["control_certificate"] else None
        ),
        control_token_file=Path(found["control_token_file"]) if found["control_token_file"] else None,
        key_file=Path(found["key_file"]) if found["key_file"] else state / "key",
        node=found["node"] or socket.gethostname(),
        log_level=level,
        log_format=found["log_format"],
        log_calls=parse_switch("log-calls", found["log_calls"]),
        metrics=parse_address(found["metrics"], "metrics") if found["metrics"] else None,
        metrics_token_file=Path(found["metrics_token_file"]) if found["metrics_token_file"] else None,
        digest=parse_digest(found["digest"]),
        tls=tls,
        ws_origins=tuple(lists["ws_origin"]),
        dns_servers=tuple(map(parse_dns_server, lists["dns_server"])),
        media=parse_media(lists["media"]),
        trace=parse_switch("trace", found["trace"]),
        trace_sample=parse_number("trace_sample", found["trace_sample"], 0, 1),
        keeping=parse_keeping(found),
        drain=parse_number("drain", found["drain"], 0, DRAIN_LIMIT),
        tuned=parse_tuned(lists["set"]),
    )


def _control(found: Mapping[str, str], state: Path) -> Path:
    control = Path(found["control"]) if found["control"] else state / "control.sock"
    if len(os.fsencode(control)) > SOCKET_PATH_BYTES:
        raise ConfigError(
            f'control "{control}" has more than {SOCKET_PATH_BYTES} bytes, the limit of a socket; take a shorter path.'
        )
    return control


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return len(host) <= 253 and all(
        label and len(label) <= 63 and label.isascii() and label.replace("-", "").isalnum() for label in labels
    )
