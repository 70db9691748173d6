"""What operators may set of `Settings`: `--set NAME=VALUE`, checked, with a sentence for what cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class TuningError(ValueError):
    """A sentence that names the setting, its value and what to do."""


class Range(NamedTuple):
    """A number that operators may set."""

    low: float
    high: float
    what: str
    whole: bool = True


DAY = 86_400
NUMBERS: Mapping[str, Range] = {
    "min_expires": Range(10, DAY, "shortest registration of a phone, seconds; for less it gets 423"),
    "default_expires": Range(10, DAY, "registration of a phone that names no time, seconds"),
    "max_expires": Range(10, DAY, "longest registration of a phone, seconds"),
    "nat_ping": Range(0, 3600, "how often a phone behind NAT is asked with OPTIONS over UDP, seconds; 0: never"),
    "flow_timer": Range(10, 3600, "how often phones with flows (RFC 5626) send keep-alives over streams, seconds"),
    "flow_timer_udp": Range(10, 3600, "the same over UDP, seconds"),
    "session_expires": Range(90, DAY, "session interval that is asked for, and the longest, seconds"),
    "session_min": Range(90, DAY, "shortest session interval, seconds; for less a caller gets 422"),
    "session_probe": Range(30, DAY, "how often the ends of a call without session timer are asked, seconds"),
    "caller_timeout": Range(30, 3600, "how long an outbound call may say nothing new, seconds"),
    "mute_after": Range(1, 100_000, "failures of a stranger before it is banned"),
    "mute_window": Range(1, DAY, "the time in which so many are forgiven, seconds"),
    "mute_time": Range(1, DAY, "first ban, seconds; each further one is twice as long"),
    "ban_longest": Range(1, 30 * DAY, "longest ban, seconds"),
    "ban_forget": Range(60, 30 * DAY, "good behaviour after which bans begin anew, seconds"),
    "register_rate": Range(0.1, 1_000_000, "REGISTER requests a second from one address", whole=False),
    "register_burst": Range(1, 1_000_000, "REGISTER requests at once from one address"),
    "request_rate": Range(0.1, 1_000_000, "other requests outside a dialog, a second, one address", whole=False),
    "request_burst": Range(1, 1_000_000, "the same at once"),
    "pbx_rate": Range(0.1, 1_000_000, "requests outside a dialog, a second, one PBX", whole=False),
    "pbx_burst": Range(1, 1_000_000, "the same at once"),
    "tenant_register_rate": Range(0.1, 1_000_000, "REGISTER requests a second of one tenant", whole=False),
    "tenant_register_burst": Range(1, 1_000_000, "the same at once"),
    "tenant_request_rate": Range(0.1, 1_000_000, "other requests a second of one tenant", whole=False),
    "tenant_request_burst": Range(1, 1_000_000, "the same at once"),
    "tenant_failure_rate": Range(0.1, 1_000_000, "wrong credentials a second, one tenant, answered", whole=False),
    "tenant_failure_burst": Range(1, 1_000_000, "the same at once"),
    "media_ping": Range(1, 3600, "how often a media relay is asked whether it is there, seconds"),
    "upstream_rate": Range(0.1, 100_000, "registrations sent a second to one PBX", whole=False),
    "upstream_total_rate": Range(0.1, 100_000, "registrations sent a second to all PBXs", whole=False),
    "retry_first": Range(1, 3600, "first wait after a PBX refused a registration, seconds"),
    "retry_cap": Range(1, DAY, "longest wait after that, seconds"),
    "metrics_tenants": Range(0, 1000, "tenants with metrics of their own; the others are counted together"),
    "options_interval": Range(0, 3600, "how often a PBX is asked with OPTIONS whether it is there, seconds; 0: never"),
}
"""By their names in `Settings`."""
USER_AGENT = re.compile(r"[A-Za-z0-9.!%*_+`'~/-]{1,64}")
"""One word, as it is also the agent of a Warning (RFC 3261 20.43)."""
IN_ORDER = (("min_expires", "default_expires"), ("default_expires", "max_expires"), ("session_min", "session_expires"),
            ("retry_first", "retry_cap"), ("mute_time", "ban_longest"))  # fmt: skip
"""Pairs of which the first may not be more than the second."""
LIMIT = len(NUMBERS) + 1


def parse(texts: Sequence[str], defaults: Mapping[str, float]) -> dict[str, float | str]:
    """`NAME=VALUE` each; fields of `Settings`. `defaults` has what is in force unless set. Raises TuningError."""
    found: dict[str, float | str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or (name not in NUMBERS and name != "user_agent"):
            known = ", ".join((*NUMBERS, "user_agent"))
            raise TuningError(f'set "{text}" is no NAME=VALUE; the names are {known}.')
        if name in found:
            raise TuningError(f'set "{name}" is given twice; remove one.')
        found[name] = _user_agent(value) if name == "user_agent" else _number(name, value)
    for less, more in IN_ORDER:
        low, high = (found.get(name, defaults[name]) for name in (less, more))
        if float(low) > float(high):
            raise TuningError(f"set {less}={low:g} is more than {more}={high:g}; set both so that they fit.")
    return found


def _number(name: str, text: str) -> float:
    kind = NUMBERS[name]
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not kind.low <= value <= kind.high or (kind.whole and value != int(value)):
        what = "whole number" if kind.whole else "number"
        raise TuningError(f'set {name} "{text}" is no {what} from {kind.low:g} to {kind.high:g}: {kind.what}.')
    return int(value) if kind.whole else value


def _user_agent(text: str) -> str:
    if not USER_AGENT.fullmatch(text):
        raise TuningError(f'set user_agent "{text}" is not one word of up to 64 letters, digits and -._/+; correct it.')
    return text


def help_lines() -> str:
    """For `sipd run --help`."""
    lines = [f"  {name:<21} {kind.what} ({kind.low:g} to {kind.high:g})" for name, kind in NUMBERS.items()]
    return "\n".join(["names of --set:", *lines, f"  {'user_agent':<21} what the edge calls itself"])
