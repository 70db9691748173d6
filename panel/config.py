"""Settings of the panel: read once, from `TENANTRY_*` environment variables; no other file reads them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the variable, its value and what would do."""


@dataclass(frozen=True, slots=True)
class Smtp:
    """Where mail leaves. `security` is one of none, starttls, tls."""

    host: str
    port: int
    username: str
    password: str
    security: str
    sender: str


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that differs between two installations."""

    state_dir: Path
    """Holds what the panel makes for itself: database, secret key, installation key."""
    database_url: str
    key_file: Path
    """Installation key: base64 of 64 bytes, shared with the nodes."""
    base_url: str
    """Where people reach the panel; links in mails start with it. No trailing slash."""
    platform_domain: str
    """Tenants get `<slug>.<platform domain>` at sign-up."""
    edge_hosts: tuple[str, ...]
    """Names and addresses that are the edge itself; the first is what phones and PBXs are told."""
    control: str
    """Control channel of the local node: `unix:/path`, `tls:host:port` or `tcp:host:port`."""
    secret_key: str
    """Signs cookies and forms."""
    smtp: Smtp | None = None
    """None: mails go to the local outbox page."""
    sip_port: int = 5060
    """Where phones and PBXs reach the edge, at its first host."""
    trusted_proxies: int = 0
    """How many reverse proxies stand in front and set X-Forwarded-For."""
    rate_storage: str = "memory://"
    """Where rate limits are counted; `redis://...` when several panels run."""
    control_authorities: str = ""
    """Which certificates nodes may show: a file of authorities, or fingerprints; empty: the system's authorities."""
    testing: bool = False

    @property
    def https(self) -> bool:
        return self.base_url.startswith("https://")


def from_env(env: Mapping[str, str] | None = None) -> Config:
    """Read the settings; makes the state folder and the secret key (mode 0600) where missing."""
    env = os.environ if env is None else env
    state_dir = Path(env.get("TENANTRY_STATE_DIR", "var")).absolute()
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Config(
        state_dir=state_dir,
        database_url=database_url(env.get("TENANTRY_DATABASE_URL", f"sqlite:///{state_dir / 'tenantry.db'}")),
        key_file=Path(env.get("TENANTRY_KEY_FILE", str(state_dir / "installation.key"))),
        base_url=_base_url(env.get("TENANTRY_BASE_URL", "http://127.0.0.1:8000")),
        platform_domain=env.get("TENANTRY_PLATFORM_DOMAIN", "tenantry.example").strip(".").lower(),
        edge_hosts=_words(env.get("TENANTRY_EDGE_HOSTS", "127.0.0.1")),
        control=env.get("TENANTRY_CONTROL", f"unix:{state_dir / 'sipd.sock'}"),
        secret_key=env.get("TENANTRY_SECRET_KEY") or _kept_secret(state_dir / "secret.key"),
        smtp=_smtp(env),
        sip_port=_number(env, "TENANTRY_SIP_PORT", 5060),
        trusted_proxies=_number(env, "TENANTRY_TRUSTED_PROXIES", 0),
        rate_storage=env.get("TENANTRY_RATE_STORAGE", "memory://"),
        control_authorities=env.get("TENANTRY_CONTROL_AUTHORITIES", ""),
    )


def database_url(url: str) -> str:
    """Name the driver: PostgreSQL is spoken to by psycopg 3."""
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    if not url.startswith(("sqlite:", "postgresql+psycopg:")):
        raise ConfigError(f"TENANTRY_DATABASE_URL is {url!r}; give sqlite:///FILE or postgresql://USER@HOST/NAME")
    return url


def write_private(path: Path, text: str) -> None:
    """Create `path` readable by its owner only; never replaces a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _kept_secret(path: Path) -> str:
    try:
        write_private(path, secrets.token_urlsafe(48) + "\n")
    except FileExistsError:
        pass
    return path.read_text().strip()


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"TENANTRY_BASE_URL is {url!r}; give an address such as https://panel.example")
    return url.rstrip("/")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"{name} is {text!r}; give a number")
    return int(text)


def _smtp(env: Mapping[str, str]) -> Smtp | None:
    host = env.get("TENANTRY_SMTP_HOST", "")
    if not host:
        return None
    security = env.get("TENANTRY_SMTP_SECURITY", "starttls")
    if security not in ("none", "starttls", "tls"):
        raise ConfigError(f"TENANTRY_SMTP_SECURITY is {security!r}; give none, starttls or tls")
    return Smtp(
        host=host,
        port=_number(env, "TENANTRY_SMTP_PORT", 465 if security == "tls" else 587),
        username=env.get("TENANTRY_SMTP_USERNAME", ""),
        password=env.get("TENANTRY_SMTP_PASSWORD", ""),
        security=security,
        sender=env.get("TENANTRY_SMTP_FROM", "tenantry@localhost"),
    )
