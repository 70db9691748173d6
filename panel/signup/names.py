"""Short names for organisations: proposed from the name, and judged. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from sipd.routing.checks_text import domain_fault, slug_fault

MAX_SLUG = 40
MIN_SLUG = 2
RESERVED = frozenset(
    "abuse admin api app assets auth billing cdn dns docs edge example help hostmaster imap info internal login "
    "mail mx ns ns1 ns2 ntp panel pbx platform postmaster provider proxy registrar root security setup sip sips "
    "smtp ssl static status stun support system tenantry test tls turn voip webmaster ws wss www".split()
)
"""Names that would pass for the provider's own."""
SPELLED_OUT = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "o", "æ": "ae", "å": "a", "ł": "l", "&": " and "}
)


def propose(name: str) -> str:
    """A short name for an organisation; may be empty where nothing of the name can be used."""
    spelled = name.casefold().translate(SPELLED_OUT)
    plain = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG].strip("-")


def fault(slug: str, platform_domain: str) -> str:
    """Why it cannot be a short name, as a sentence; empty when it can."""
    if len(slug) < MIN_SLUG:
        return f"At least {MIN_SLUG} characters, please."
    if len(slug) > MAX_SLUG:
        return f"At most {MAX_SLUG} characters, please; this has {len(slug)}."
    if slug[2:4] == "--":
        return "Two hyphens in third and fourth place are kept for other alphabets; leave one out."
    if slug in RESERVED:
        return f"“{slug}” is kept for the provider; choose another one."
    return slug_fault(slug) or domain_fault(f"{slug}.{platform_domain}")


def alternatives(slug: str) -> Iterator[str]:
    """The name, then the same with a number, as often as asked."""
    yield slug
    for number in range(2, 100):
        yield f"{slug[: MAX_SLUG - 3]}-{number}"
