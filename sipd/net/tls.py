"""TLS for the streams, sans-IO on the standard `ssl`: certificates by server name, reloaded while running.

A connection keeps the certificates that it was made with; a reload concerns new ones only.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509

log = logging.getLogger("sipd.net.tls")

READ_BYTES = 64 * 1024
COUNTERS = ("tls.reloads", "tls.reload_failures", "tls.handshake_failures")


class CertificateError(ValueError):
    """A certificate, key or list of authorities that cannot be used; a sentence that names the file."""


class TlsError(Exception):
    """The handshake failed, or what came is no TLS. The text is OpenSSL's, fit for a log."""


class Pair(NamedTuple):
    """A certificate chain and its key, both PEM; the key may be in the same file."""

    chain: Path
    key: Path


class Files(NamedTuple):
    """What an operator gives. All paths may change their content while we run."""

    server: tuple[Pair, ...] = ()
    """Ours, for connections that come in. The first is for those who name no server that we know."""
    client_authorities: Path | None = None
    """Who signs the certificates of PBXs that connect; None: none is asked for."""
    authorities: Path | None = None
    """Who signs the certificates of PBXs that we connect to; None: those that the system trusts."""
    client: Pair | None = None
    """Ours, for connections that we make."""

    @property
    def paths(self) -> list[Path]:
        """Every file named."""
        pairs = [*self.server, *([self.client] if self.client else [])]
        single = [path for path in (self.client_authorities, self.authorities) if path is not None]
        return list(dict.fromkeys([path for pair in pairs for path in pair] + single))


class Certificates:
    """The contexts in force. `reload` puts new ones in their place, or keeps the old ones."""

    def __init__(self, files: Files, counters: dict[str, int]) -> None:
        """Raises CertificateError."""
        self._files = files
        self._counters = counters
        for name in COUNTERS:
            counters.setdefault(name, 0)
        self._seen = self._look()
        self._servers: list[ServerCertificate] = []
        self._load()

    def _load(self) -> None:
        """All of it, or nothing."""
        servers = [ServerCertificate(pair, self._files.client_authorities) for pair in self._files.server]
        checked = outgoing_context(self._files, verify=True)
        unchecked = outgoing_context(self._files, verify=False)
        if servers:
            servers[0].context.sni_callback = lambda tls, name, _: self._choose(servers, tls, name)
        pairs = [*self._files.server, *([self._files.client] if self._files.client else [])]
        self._expiries = {str(pair.chain): expiry_of(pair.chain) for pair in pairs}
        self._servers, self._checked, self._unchecked = servers, checked, unchecked

    @staticmethod
    def _choose(servers: Sequence[ServerCertificate], tls: Any, name: str | None) -> None:
        """The certificate with this very name, else one with a wildcard for it, else the first (RFC 6066 section 3)."""
        wanted = (name or "").lower().rstrip(".")
        wildcard = "*." + wanted.partition(".")[2]
        for spelt in (wanted, wildcard):
            for certificate in servers:
                if spelt in certificate.names:
                    tls.context = certificate.context
                    return

    def accept(self) -> Tls:
        """For a connection that came in. Raises TlsError without a certificate of ours."""
        if not self._servers:
            raise TlsError("no certificate for connections that come in")
        return Tls(self._servers[0].context, server_side=True)

    def connect(self, name: str, *, verify: bool) -> Tls:
        """For a connection that we make to a server that shall be `name`, a DNS name or IP address. Raises TlsError."""
        if verify and not name:  # `ssl` would then look for no name at all
            raise TlsError("there is no name that the certificate could be for")
        return Tls(self._checked if verify else self._unchecked, server_side=False, name=name)

    def expiries(self) -> dict[str, float]:
        """Epoch seconds when each certificate of ours ends, by the file that it is in."""
        return self._expiries

    def reload(self) -> str:
        """Take the files anew; why they could not be taken, or empty. Then the old ones stay."""
        self._seen = self._look()
        try:
            self._load()
        except CertificateError as error:
            self._counters["tls.reload_failures"] += 1
            log.error("certificates not reloaded, the old ones stay error=%s", error)
            return str(error)
        self._counters["tls.reloads"] += 1
        log.info("certificates reloaded")
        return ""

    def reload_if_changed(self) -> None:
        """To be called every few seconds."""
        if self._look() != self._seen:
            self.reload()

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What tells a file from the one before, per file."""
        found: list[tuple[int, int, int] | None] = []
        for path in self._files.paths:
            try:
                seen = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((seen.st_mtime_ns, seen.st_size, seen.st_ino))
        return found


class ServerCertificate:
    """One certificate of ours: its context, and the names that it is for."""

    __slots__ = ("context", "names")

    def __init__(self, pair: Pair, client_authorities: Path | None) -> None:
        """Raises CertificateError."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
        use(self.context, pair)
        if client_authorities is not None:
            trust(self.context, client_authorities)
            self.context.verify_mode = ssl.CERT_OPTIONAL
        self.names = names_in(pair.chain)


def outgoing_context(files: Files, *, verify: bool) -> ssl.SSLContext:
    """For connections that we make. Raises CertificateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if files.client is not None:
        use(context, files.client)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif files.authorities is not None:
        trust(context, files.authorities)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def use(context: ssl.SSLContext, pair: Pair) -> None:
    """Load a certificate of ours. Raises CertificateError, which never quotes what the files hold."""
    try:
        context.load_cert_chain(pair.chain, pair.key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        where = str(pair.chain) if pair.chain == pair.key else f"{pair.chain} with the key {pair.key}"
        raise CertificateError(f"The certificate {where} cannot be used: {_why(error)}.") from error


def trust(context: ssl.SSLContext, authorities: Path) -> None:
    """Believe what these authorities sign. Raises CertificateError."""
    try:
        context.load_verify_locations(cafile=authorities)
    except (OSError, ValueError) as error:
        raise CertificateError(f"The authorities in {authorities} cannot be used: {_why(error)}.") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a passphrase")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or "it is no PEM file"


def names_in(chain: Path) -> frozenset[str]:
    """DNS names of the first certificate in a PEM file, lower-case. Raises CertificateError."""
    try:
        certificate = x509.load_pem_x509_certificates(chain.read_bytes())[0]
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return frozenset(name.lower() for name in found.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        return frozenset()
    except (OSError, ValueError) as error:
        raise CertificateError(f"The certificate {chain} cannot be read: {error}.") from error


def expiry_of(chain: Path) -> float:
    """Epoch seconds when the first certificate of a PEM file to end does. Raises CertificateError."""
    try:
        return min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(chain.read_bytes()))
    except (OSError, ValueError) as error:
        raise CertificateError(f"The certificate {chain} cannot be read: {error}.") from error


class Tls:
    """One connection's TLS: `receive` takes what came and gives plain bytes, `send` takes plain bytes; after either
    `output` is to be sent."""

    __slots__ = ("_in", "_object", "_out", "ended", "ready", "verified")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, name: str = "") -> None:
        """Raises TlsError for a name that is none."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=name or None)
        except (ValueError, TypeError) as error:
            raise TlsError(str(error)) from error
        self.ready = False
        """Whether the handshake is done."""
        self.ended = False
        """Whether the peer said that it sends no more."""
        self.verified: frozenset[str] = frozenset()
        """DNS names in the peer's certificate, lower-case; empty unless it was verified."""

    def start(self) -> None:
        """Begin the handshake of a connection that we make."""
        self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """Plain bytes of the peer. Raises TlsError."""
        self._in.write(data)
        if not self.ready and not self._shake_hands():
            return b""
        parts = []
        try:
            while chunk := self._object.read(READ_BYTES):
                parts.append(chunk)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise TlsError(_why(error)) from error
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """Encrypt; only when `ready`. Raises TlsError."""
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            raise TlsError(_why(error)) from error

    def close(self) -> None:
        """Say that we send no more."""
        with suppress(ssl.SSLError, ValueError):
            self._object.unwrap()

    def output(self) -> bytes:
        """Encrypted bytes that are to be sent."""
        return self._out.read()

    def _shake_hands(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            raise TlsError(f"the certificate is not believed: {error.verify_message}") from error
        except (OSError, ValueError) as error:  # ValueError: no name to look for
            raise TlsError(_why(error)) from error
        self.ready = True
        self.verified = frozenset(dns_names(self._object.getpeercert() or {}))
        return True


def dns_names(certificate: dict[str, Any]) -> Iterable[str]:
    """The DNS names that a verified certificate is for; the common name is none of them (RFC 5922 section 7.1)."""
    return (value.lower() for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")
