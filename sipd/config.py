"""What the daemon is told at start: flags over environment over file over defaults."""

from __future__ import annotations

import base64
import binascii
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sipd.routing.seal import KEY_BYTES

TOKEN_CHARACTERS = 16
"""Shortest token of the control channel that is accepted."""
LISTENER_LIMIT = 64
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux."""
TRANSPORTS = ("udp", "tcp")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
DIGESTS = ("SHA-256", "MD5")
LEVELS = ("debug", "info", "warning", "error")

TEXTS: Mapping[str, str] = {
    "advertise": "",
    "state": "sipd-state",
    "control": "",
    "control_tcp": "",
    "control_token_file": "",
    "key_file": "",
    "node": "",
    "digest": "MD5,SHA-256",
    "log_level": "info",
}
"""Settings that are one text each, with their defaults; the lists are beside them."""
LISTS = ("listen", "dns_server")
DNS_SERVER_LIMIT = 8
LISTEN = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")


class ConfigError(ValueError):
    """A setting that cannot be used; a sentence that names it, its value and what to do."""


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose."""

    host: str
    """IP address, IPv6 without brackets."""
    port: int


class ListenOn(NamedTuple):
    """One `--listen`."""

    transport: str
    address: Address


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
    digest: tuple[str, ...] = DIGESTS
    """Algorithms that phones are challenged with, in this order."""
    dns_servers: tuple[Address, ...] = ()
    """Name servers in place of the system's."""


def load(flags: Mapping[str, object], environment: Mapping[str, str]) -> Config:
    """The settings in force. `flags` holds those given on the command line; `config` names the TOML file.

    Raises ConfigError.
    """
    file = flags.get("config") or environment.get("TENANTRY_CONFIG")
    from_file = read_toml(Path(str(file))) if file else {}
    found = {name: _first(name, flags, environment, from_file, default) for name, default in TEXTS.items()}
    checked = _checked(_listen(flags, environment, from_file), found)
    servers = _list("dns_server", flags, environment, from_file)
    if len(servers) > DNS_SERVER_LIMIT:
        raise ConfigError(f"dns-server is given {len(servers)} times; the limit is {DNS_SERVER_LIMIT}. Name fewer.")
    return replace(checked, dns_servers=tuple(map(parse_dns_server, servers)))


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
                example = "udp:127.0.0.1:5060" if name == "listen" else "127.0.0.1:53"
                raise ConfigError(f'{path}: "{name}" takes a list of texts, such as ["{example}"].')
        elif name not in TEXTS:
            known = ", ".join((*LISTS, *TEXTS))
            raise ConfigError(f'{path}: "{name}" is no setting; the settings are {known}.')
        elif not isinstance(value, str):
            raise ConfigError(f'{path}: "{name}" takes a text in quotes, not {value!r}.')
    return read


def parse_listen(text: str) -> ListenOn:
    """`udp:127.0.0.1:5060`, `tcp:[::1]:5060`. Raises ConfigError."""
    transport, colon, rest = text.partition(":")
    if not colon or transport not in TRANSPORTS:
        names = " or ".join(TRANSPORTS)
        raise ConfigError(f'listen "{text}" does not begin with {names}; write it like udp:127.0.0.1:5060.')
    return ListenOn(transport, parse_address(rest, "listen", text))


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


def parse_advertise(text: str) -> tuple[str, int]:
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT` or a bare IPv6 address; port 0 if none. Raises ConfigError."""
    if is_address(text) or not text:
        return text, 0
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "0"
    host = host.removeprefix("[").removesuffix("]")
    if not _is_port(port) or not (is_address(host) or _is_name(host)):
        raise ConfigError(
            f'advertise "{text}" is no host or host:port; write it like sip.example.com or 192.0.2.1:5060.'
        )
    return host.lower(), int(port)


def parse_digest(text: str) -> tuple[str, ...]:
    """`SHA-256,MD5`, `MD5`: algorithms in the order of their preference. Raises ConfigError."""
    names = tuple(text.upper().replace(",", " ").split())
    if not names or not set(names) <= set(DIGESTS) or len(set(names)) < len(names):
        raise ConfigError(f'digest "{text}" is no list of {" and ".join(DIGESTS)}; write it like SHA-256,MD5 or MD5.')
    return names


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


def _list(
    name: str, flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object]
) -> list[str]:
    """A setting that is a list; its environment variable separates by spaces or commas."""
    in_environment = environment.get(f"TENANTRY_{name.upper()}", "").replace(",", " ").split()
    for texts in (flags.get(name), in_environment, file.get(name)):
        if isinstance(texts, list) and texts:
            return [str(text) for text in texts]
    return []


def _listen(
    flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object]
) -> tuple[ListenOn, ...]:
    texts = _list("listen", flags, environment, file) or list(LISTEN)
    if len(texts) > LISTENER_LIMIT:
        raise ConfigError(f"listen is given {len(texts)} times; the limit is {LISTENER_LIMIT}. Listen on fewer.")
    listen = tuple(map(parse_listen, texts))
    for number, one in enumerate(listen):
        if one.address.port and one in listen[:number]:
            raise ConfigError(f'listen "{texts[number]}" is given twice; remove one.')
    return listen


def _checked(listen: tuple[ListenOn, ...], found: Mapping[str, str]) -> Config:
    host, port = parse_advertise(found["advertise"])
    if not host or host in WILDCARDS:
        for one in listen:
            if one.address.host in WILDCARDS:
                raise ConfigError(
                    f'listen "{one.address.host}" is every address of this machine, which no peer can answer to; '
                    "say how others reach it: --advertise HOST[:PORT]"
                )
    state = Path(found["state"])
    control = Path(found["control"]) if found["control"] else state / "control.sock"
    if len(os.fsencode(control)) > SOCKET_PATH_BYTES:
        raise ConfigError(
            f'control "{control}" has more than {SOCKET_PATH_BYTES} bytes, the limit of a socket; take a shorter path.'
        )
    if found["control_tcp"] and not found["control_token_file"]:
        raise ConfigError("control-tcp needs a token: name its file with --control-token-file FILE")
    level = found["log_level"].lower()
    if level not in LEVELS:
        raise ConfigError(f'log-level "{level}" is none of {", ".join(LEVELS)}.')
    return Config(
        listen=listen,
        advertise_host=host,
        advertise_port=port,
        state=state,
        control=control,
        control_tcp=parse_address(found["control_tcp"], "control-tcp") if found["control_tcp"] else None,
        control_token_file=Path(found["control_token_file"]) if found["control_token_file"] else None,
        key_file=Path(found["key_file"]) if found["key_file"] else state / "key",
        node=found["node"] or socket.gethostname(),
        log_level=level,
        digest=parse_digest(found["digest"]),
    )


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return len(host) <= 253 and all(
        label and len(label) <= 63 and label.isascii() and label.replace("-", "").isalnum() for label in labels
    )
