"""What each kind of text in a table may be. One function each, for the form, the preview and the publication.

A check returns "" for good text, else a sentence that names the value, the limit, and what to do.
The alphabets are narrow on purpose: what passes can be written into an engine's configuration and into
a SIP URI without quoting, so that nothing is ever escaped.
"""

from __future__ import annotations

import ipaddress
import re

from sipd.routing.lookup import is_address, parse_source
from sipd.routing.model import MAX_DOMAIN, MAX_NAME, MAX_USER_PART
from sipd.routing.pattern import parse_pattern
from sipd.routing.problem import show
from sipd.routing.seal import is_sealed

MAX_ID = 64
MAX_LABEL = 63
"""Octets between two dots of a name (RFC 1035 section 2.3.4)."""
MAX_URI = 300
MAX_E164 = 15
"""Digits (ITU-T E.164 section 6)."""
MAX_SEALED = 600
"""Characters of a sealed secret; enough for a password of 400."""
MAX_DIGITS = 32
"""Digits of a number that is not E.164."""
PROXY_TRANSPORTS = ("udp", "tcp", "tls")
WIDEST = {4: 16, 6: 32}
"""Prefix length below which a source network draws a warning, by IP version."""

# Cc, the line and paragraph separators, lone surrogates, and marks that turn the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_USER_PART = re.compile(r"[A-Za-z0-9+][A-Za-z0-9._+-]*")
_UPSTREAM_USER = re.compile(r"[A-Za-z0-9._+~!*$&=-]+")
_AUTH_USER = re.compile(r"[A-Za-z0-9._+~!*$&=@%:/?^|(){}\[\]-]+")
_DIAL = re.compile(r"[A-Za-z0-9+*][A-Za-z0-9._+*-]*")
_DIGITS = re.compile(r"\+?[0-9*]*")
_E164 = re.compile(r"\+[1-9][0-9]*")
_NAME_REFUSED = {'"': "”", "'": "’", "`": "’", "#": "no", ";": ",", "\\": "/"}
_DISPLAY_REFUSED = {key: value for key, value in _NAME_REFUSED.items() if key != "'"}


def control_fault(text: str) -> str:
    """Control characters: they end lines and comments in what is rendered from a table."""
    found = _CONTROL.search(text) if not (text.isascii() and text.isprintable()) else None
    if found is None:
        return ""
    return f"{show(text)} holds the control character U+{ord(found[0]):04X}; remove it."


def _length_fault(text: str, limit: int, what: str) -> str:
    if len(text) <= limit:
        return ""
    return f"{show(text)} has {len(text)} characters; the limit for {what} is {limit}. Shorten it."


def _shape_fault(text: str, shape: re.Pattern[str], limit: int, rule: str) -> str:
    """`rule` goes on after the value."""
    if shape.fullmatch(text) and len(text) <= limit:
        return ""
    return control_fault(text) or f"{show(text)} {rule}"


def id_fault(text: str) -> str:
    """An opaque id."""
    rule = f"is no id; it takes 1 to {MAX_ID} letters, digits, - and _, and begins with a letter or digit."
    return _shape_fault(text, _ID, MAX_ID, rule)


def name_fault(text: str) -> str:
    """The name of a tenant or connection, which may stand in a comment of an engine's configuration."""
    return _free_text_fault(text, _NAME_REFUSED) if text.strip() else "The name is empty; give it one."


def display_name_fault(text: str) -> str:
    """The name of a user; may be empty, and may hold an apostrophe, as it is in no configuration."""
    return _free_text_fault(text, _DISPLAY_REFUSED)


def _free_text_fault(text: str, refused: dict[str, str]) -> str:
    fault = control_fault(text) or _length_fault(text, MAX_NAME, "a name")
    if fault:
        return fault
    for character, instead in refused.items():
        if character in text:
            return f"{show(text)} holds {character} which no name may hold; write {instead} instead, or leave it out."
    return ""


def slug_fault(text: str) -> str:
    """The tenant's label under the platform domain."""
    rule = (
        f"is no short name; it takes 1 to {MAX_LABEL} lower-case letters, digits and -, "
        "and neither begins nor ends with -."
    )
    return _shape_fault(text, _LABEL, MAX_LABEL, rule)


def host_fault(text: str) -> str:
    """A host name or IP address; IPv6 without brackets."""
    if is_address(text):
        return _address_fault(text)
    return _name_of_host_fault(text, "a host")


def domain_fault(text: str) -> str:
    """A tenant's SIP domain: a name with at least one dot, never an address."""
    bare = text.removeprefix("[").removesuffix("]")
    if is_address(bare):
        return f"{show(text)} is an IP address; a domain is a name, such as acme.example."
    fault = _name_of_host_fault(text, "a domain")
    if not fault and "." not in text:
        return f"{show(text)} has no dot; a domain has at least two parts, such as acme.example."
    return fault


def _name_of_host_fault(text: str, what: str) -> str:
    if not text:
        return f"This is empty; it takes {what}, such as acme.example."
    if len(text) > MAX_DOMAIN:
        return f"{show(text)} has {len(text)} characters; the limit for {what} is {MAX_DOMAIN}."
    labels = text.split(".")
    if all(_LABEL.fullmatch(label) and len(label) <= MAX_LABEL for label in labels) and not labels[-1].isdigit():
        return ""
    return control_fault(text) or _spelling_fault(text, what)


def _spelling_fault(text: str, what: str) -> str:
    """Says how to write a name that nearly is one."""
    if text != text.lower():
        return f"{show(text)} has upper-case letters; write it in lower case: {show(text.lower())}."
    if text.endswith("."):
        return f"{show(text)} ends with a dot; write it without: {show(text.rstrip('.'))}."
    if not text.isascii():
        try:
            written = text.encode("idna").decode()
        except UnicodeError:
            written = "xn--…"
        return f"{show(text)} has characters beyond a to z; write it in its ASCII form: {show(written)}."
    return (
        f"{show(text)} is not {what}; its parts have 1 to {MAX_LABEL} letters, digits and -, with dots between, "
        "neither begin nor end with -, and the last one is no number."
    )


def _address_fault(text: str) -> str:
    address = ipaddress.ip_address(text)
    if "%" in text:
        return f"{show(text)} has a zone, which no other machine can use; write it without."
    if address.is_unspecified or address.is_multicast:
        return f"{show(text)} is the address of no single machine; give the one that sends and receives."
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return f"{show(text)} is an IPv4 address; write it as {show(str(address.ipv4_mapped))}."
    if str(address) != text:
        return f"{show(text)} is not in canonical form; write it as {show(str(address))}."
    return ""


def source_fault(text: str) -> str:
    """Where a PBX sends from: network, address, or address and port."""
    try:
        network, _ = parse_source(text)
    except ValueError:
        return control_fault(text) or _source_spelling_fault(text)
    if "/" not in text or network.num_addresses == 1:
        return _address_fault(str(network.network_address))
    if network.prefixlen == 0:
        return f"{show(text)} is every address there is; name the ones that the PBX sends from."
    if network.is_multicast:
        return f"{show(text)} is a multicast network, from which nothing is sent; name the PBX's own addresses."
    return ""


def network_fault(text: str) -> str:
    """A network or address that is allowed or blocked; each has one spelling."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return control_fault(text) or _network_spelling_fault(text)
    if "%" in text or network.num_addresses == 1:
        fault = _address_fault(str(network.network_address))
        if fault:
            return fault
    if network.prefixlen == 0:
        return f"{show(text)} is every address there is; name the ones that are meant."
    written = str(network.network_address if network.num_addresses == 1 else network)
    return "" if text == written else f"{show(text)} is not in canonical form; write it as {show(written)}."


def _network_spelling_fault(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{show(text)} is no network; write a network (192.0.2.0/24, 2001:db8::/32) or an address (192.0.2.1)."
    return f"{show(text)} has bits set beyond its prefix; write the network as {show(str(network))}."


def _source_spelling_fault(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return (
            f"{show(text)} is no source; write a network (192.0.2.0/24), an address (192.0.2.1), "
            "or an address and port (192.0.2.1:5060, [2001:db8::1]:5060)."
        )
    return f"{show(text)} has bits set beyond its prefix; write the network as {show(str(network))}."


def source_warning(text: str, transport: str) -> str:
    """For a source without fault: what is allowed and probably not meant."""
    network, port = parse_source(text)
    if network.prefixlen < WIDEST[network.version]:
        return (
            f"{show(text)} is a very wide network: each of its {network.num_addresses} addresses may send calls. "
            "Name the PBX's own addresses."
        )
    if port and transport in ("tcp", "tls"):
        return (
            f"{show(text)} names a port, but a PBX opens its {transport.upper()} connections from changing ports. "
            "Leave the port out."
        )
    return ""


def extension_fault(text: str) -> str:
    """An extension or alias: the user part of a SIP URI."""
    rule = (
        f"is no extension; it takes 1 to {MAX_USER_PART} letters, digits and . _ + -, "
        "and begins with a letter, a digit or +."
    )
    return _shape_fault(text, _USER_PART, MAX_USER_PART, rule)


def upstream_user_fault(text: str) -> str:
    """A user name at the PBX, as it stands in To and From."""
    rule = f"is no user name for a SIP address; it takes 1 to {MAX_USER_PART} letters, digits and . _ + ~ ! * $ & = -."
    return _shape_fault(text, _UPSTREAM_USER, MAX_USER_PART, rule)


def auth_user_fault(text: str) -> str:
    """A digest user name at the PBX; empty is the user name itself."""
    if not text or (_AUTH_USER.fullmatch(text) and len(text) <= MAX_NAME):
        return ""
    return control_fault(text) or (
        f"{show(text)} is no user name for the digest; it takes up to {MAX_NAME} ASCII characters without spaces, "
        "quotes, commas, #, ; and backslashes."
    )


def number_fault(text: str) -> str:
    """A public number: E.164 with +, or digits as the PBX sends them."""
    if _E164.fullmatch(text) and len(text) <= MAX_E164 + 1:
        return ""
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return ""
    return control_fault(text) or (
        f"{show(text)} is no number; write + and up to {MAX_E164} digits (the first not 0), "
        f"or up to {MAX_DIGITS} digits as the PBX sends them, without spaces."
    )


def caller_id_fault(text: str) -> str:
    """What is shown as the caller: a number, or what can be an extension; empty is none."""
    rule = (
        f"is no caller id; write a number like +4930123456, or up to {MAX_USER_PART} letters, digits and . _ + -, "
        "beginning with a letter, a digit or +."
    )
    return _shape_fault(text, _USER_PART, MAX_USER_PART, rule) if text else ""


def client_name_fault(text: str) -> str:
    """The DNS name of a client certificate; empty is none."""
    if is_address(text):
        return f"{show(text)} is an IP address; give a DNS name of the certificate, such as pbx.example."
    return _name_of_host_fault(text, "a DNS name") if text else ""


def pattern_fault(text: str) -> str:
    """The pattern of an outbound rule; empty is none."""
    try:
        if text:
            parse_pattern(text)
    except ValueError as error:
        return control_fault(text) or str(error)
    return ""


def dial_fault(text: str) -> str:
    """What a user may dial: an extension, alias, number or feature code."""
    rule = (
        f"cannot be dialled; it takes 1 to {MAX_USER_PART} letters, digits and . _ + * -, "
        "and begins with a letter, a digit, + or *."
    )
    return _shape_fault(text, _DIAL, MAX_USER_PART, rule)


def digits_fault(text: str) -> str:
    """The prefix of a rule, or what it puts in front; may be empty."""
    rule = f"is no start of a number; it takes up to {MAX_DIGITS} digits and *, with + only in front."
    return _shape_fault(text, _DIGITS, MAX_DIGITS, rule)


def guarded_fault(text: str) -> str:
    """What the numbers begin with that a guard is for."""
    return digits_fault(text) if text else "This is empty; it takes the beginning of a number, such as 00882."


def secret_fault(text: str) -> str:
    """A sealed secret; empty is none. The value is in no message."""
    if len(text) > MAX_SEALED:
        return f"The sealed secret has {len(text)} characters; the limit is {MAX_SEALED}. Use a shorter one."
    if not text or (text.isascii() and is_sealed(text)):
        return ""
    return "The secret is not sealed; seal it with the installation's key, and never write it as it is."


def uri_fault(text: str) -> str:
    """The URI of an outbound proxy: `sip:host[:port][;transport=udp|tcp|tls][;lr]`."""
    try:
        split_proxy(text)
    except ValueError as error:
        return control_fault(text) or _length_fault(text, MAX_URI, "a URI") or str(error)
    return _length_fault(text, MAX_URI, "a URI")


def split_proxy(text: str) -> tuple[str, int, str]:
    """Host (IPv6 without brackets), port (0: not given) and transport ("" likewise) of an outbound proxy.

    Raises ValueError with a sentence.
    """
    example = "write it like sip:proxy.example:5060;transport=tcp"
    if not text.startswith("sip:"):
        raise ValueError(f"{show(text)} does not begin with sip:, the only scheme of a proxy; {example}.")
    hostport, *params = text[len("sip:") :].split(";")
    if "@" in hostport or "?" in text:
        raise ValueError(f"{show(text)} has a user or headers, which a proxy has not; {example}.")
    host, port = _split_hostport(hostport, text)
    fault = host_fault(host)
    if fault:
        raise ValueError(f"{show(text)} has no good host: {fault}")
    transport = ""
    for param in params:
        name, _, value = param.partition("=")
        if name == "transport" and value in PROXY_TRANSPORTS:
            transport = value
        elif param != "lr":
            raise ValueError(
                f"{show(text)} has the parameter {show(param)}; a proxy takes transport=udp|tcp|tls and lr."
            )
    return host, port, transport


def _split_hostport(hostport: str, text: str) -> tuple[str, int]:
    host, colon, port = hostport, "", ""
    if hostport.startswith("["):
        host, bracket, rest = hostport[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError(f"{show(text)} has no good address in its brackets; write it like sip:[2001:db8::1]:5060.")
        colon, port = rest[:1], rest[1:]
    elif ":" in hostport:
        host, colon, port = hostport.rpartition(":")
    if not colon:
        return host, 0
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError(f"{show(text)} has the port {show(port)}; a port is a number from 1 to 65535.")
    return host, int(port)
