"""Checks of a tenant's users and of their accounts at the PBXs."""

from __future__ import annotations

from sipd.routing.checks_caller_id import check_caller_id
from sipd.routing.checks_group import check_user_parts
from sipd.routing.checks_relay import check_relayed_account
from sipd.routing.checks_schedule import check_schedule_of
from sipd.routing.checks_scope import (
    Problems,
    Ranges,
    Scope,
    TextChecks,
    check_choices,
    check_ids,
    check_limits,
    check_list,
    check_ranges,
    check_texts,
    reference_fault,
)
from sipd.routing.checks_text import (
    auth_user_fault,
    display_name_fault,
    extension_fault,
    id_fault,
    secret_fault,
    upstream_user_fault,
)
from sipd.routing.model import FORKS, MAX_BINDINGS, MAX_RING_SECONDS, MIN_RING_SECONDS, UpstreamAccount, User
from sipd.routing.problem import Spot, show

USER_TEXTS: TextChecks = (
    ("id", id_fault),
    ("extension", extension_fault),
    ("name", display_name_fault),
    ("ha1_md5", secret_fault),
    ("ha1_sha256", secret_fault),
)
USER_RANGES: Ranges = (
    ("serial_seconds", MIN_RING_SECONDS, MAX_RING_SECONDS, "seconds of ringing at each phone"),
    ("ring_seconds", MIN_RING_SECONDS, MAX_RING_SECONDS, "seconds of ringing"),
    ("max_bindings", 1, MAX_BINDINGS, "phones of one user"),
)


def check_users(scope: Scope) -> Problems:
    yield from check_ids(scope, "users", scope.tenant.users, "extension")
    yield from check_user_parts(scope)
    accounts: dict[tuple[str, str], User] = {}
    for index, user in enumerate(scope.tenant.users):
        spot = scope.user_spot(user, index)
        yield from check_texts(spot, user, USER_TEXTS)
        yield from check_ranges(spot, user, USER_RANGES)
        yield from check_choices(spot, user, (("fork", FORKS),))
        yield from check_limits(spot, user.limits)
        yield from _check_features(spot, user, scope)
        if user.aliases:
            yield from check_list(spot, "aliases", user.aliases, extension_fault)
        if user.enabled:
            yield from _check_reachable(spot, user, scope)
        for place, account in enumerate(user.upstream):
            yield from _check_account(spot.entry("upstream", account.connection, place), user, account, scope)
        yield from _check_shared_accounts(spot, user, accounts)


def _check_features(spot: Spot, user: User, scope: Scope) -> Problems:
    """What happens to the user's calls, and what those called see."""
    yield from check_schedule_of(spot, user, scope)
    if user.caller_id:
        yield from check_caller_id(spot, user.caller_id, scope)
    if user.fork == "serial" and user.serial_seconds > user.ring_seconds:
        yield spot.at("serial_seconds").warning(
            f"Each phone rings for {show(user.serial_seconds)} seconds, and the user for {show(user.ring_seconds)}, "
            "so only the first phone rings. Give the user more."
        )


def _check_reachable(spot: Spot, user: User, scope: Scope) -> Problems:
    places = {account.connection for account in user.upstream}
    if not user.ha1_md5 and not user.ha1_sha256 and not places & scope.relayed:
        yield spot.warning("This user has no password, so no phone can register. Set one, or disable the user.")
    known = scope.registering | scope.relayed
    if known and not places & known:
        yield spot.at("upstream").warning(
            "This user has no account at any PBX, so calls from there cannot reach it. Add one if they should."
        )


def _check_account(spot: Spot, user: User, account: UpstreamAccount, scope: Scope) -> Problems:
    fault = reference_fault(account.connection, scope)
    if fault:
        yield spot.at("connection").error(fault)
    for name, check in (("auth_username", auth_user_fault), ("password", secret_fault)):
        fault = check(getattr(account, name))
        if fault:
            yield spot.at(name).error(fault)
    needed = user.enabled and account.connection in scope.registering
    if account.username:
        fault = upstream_user_fault(account.username)
    else:
        fault = "The user name at the PBX is missing, so the user cannot be registered there. Add it." if needed else ""
    if fault:
        yield spot.at("username").error(fault)
    if user.enabled and account.connection in scope.relayed:
        yield from check_relayed_account(spot, account)
    if needed and not account.password:
        yield spot.at("password").error(
            "The password at the PBX is missing, so the user cannot be registered there. Add it."
        )


def _check_shared_accounts(spot: Spot, user: User, accounts: dict[tuple[str, str], User]) -> Problems:
    """`accounts` holds those of the users before, and gets this user's."""
    seen: set[str] = set()
    for place, account in enumerate(user.upstream):
        entry = spot.entry("upstream", account.connection, place)
        if account.connection in seen:
            yield entry.at("connection").error(
                f"There are two accounts for the connection {show(account.connection)}; remove one."
            )
            continue
        seen.add(account.connection)
        if not account.username:
            continue
        other = accounts.setdefault((account.connection, account.username), user)
        if other is not user:
            yield entry.at("username").warning(
                f"{show(account.username)} is also the account of {show(other.extension)}, so the PBX will ring both. "
                "Give each user its own."
            )
