"""What an entry of the audit says to a person. Pure."""

from __future__ import annotations

from typing import Any

from panel.models import AuditEntry

SENTENCES = {
    "account.signed_in": "signed in",
    "account.signed_out": "signed out",
    "account.sign_in_failed": "failed to sign in",
    "account.verified": "confirmed the e-mail address",
    "account.link_resent": "asked for a new confirmation link",
    "setup.link_made": "made the set-up link",
    "setup.done": "set up the installation",
    "support.entered": "entered as support",
    "support.left": "left the support session",
    "tenant.signed_up": "signed up",
}
"""Actions that are no plain "did it to the subject"."""
WITH_SUBJECT = {
    "connection.mode_switched_on": "switched multi-tenant mode on for connection",
    "connection.mode_switched_off": "switched multi-tenant mode off for connection",
    "network.allowed": "allowed network",
    "network.blocked": "blocked network",
    "source.unbanned": "ended a ban at node",
    "guard_for_all.created": "made for all tenants the guard for",
    "guard_for_all.updated": "changed for all tenants the guard for",
    "guard_for_all.removed": "removed for all tenants the guard for",
    "user.password_renewed": "made a new phone password for user",
}
"""The same, before the subject's name."""
MAX_SHOWN = 80
"""Characters of a value in the log."""


def sentence(entry: AuditEntry) -> str:
    """`updated user 101`, from an action such as `user.updated`."""
    if entry.action in SENTENCES:
        return SENTENCES[entry.action]
    if entry.action in WITH_SUBJECT:
        return f"{WITH_SUBJECT[entry.action]} {entry.subject_label}"
    thing, _, deed = entry.action.partition(".")
    return f"{deed.replace('_', ' ')} {thing.replace('_', ' ')} {entry.subject_label}".strip()


def changes(entry: AuditEntry) -> list[tuple[str, str, str]]:
    """(field, before, after) of all that changed; an empty text where there was or is nothing."""
    names = list(dict.fromkeys([*entry.before, *entry.after]))
    return [(name.replace("_", " "), _shown(entry.before.get(name)), _shown(entry.after.get(name))) for name in names]


def _shown(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
