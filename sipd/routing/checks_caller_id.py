"""Checks of the numbers that are shown to those who are called."""

from __future__ import annotations

from sipd.routing.checks_scope import Problems, Scope
from sipd.routing.checks_text import caller_id_fault
from sipd.routing.model import Connection
from sipd.routing.problem import Spot, show


def check_caller_id(spot: Spot, text: str, scope: Scope) -> Problems:
    """The number of a user or of the tenant, and whether anything shows it."""
    fault = caller_id_fault(text)
    if fault:
        yield spot.at("caller_id").error(fault)
    elif scope.used and all(scope.connections[id_].caller_id == "account" for id_ in scope.used):
        yield spot.at("caller_id").warning(
            f"{show(text)} is never shown, as all connections show the account only. "
            "Set where a connection shows the number, or remove it."
        )


def check_shown(spot: Spot, connection: Connection, scope: Scope) -> Problems:
    """A trunk without accounts has a number to show only if the table gives one."""
    if not connection.enabled or connection.caller_id == "account" or connection.strategy != "none":
        return
    if scope.tenant.caller_id:
        return
    bare = [user for user in scope.tenant.users if user.enabled and not user.caller_id]
    if bare:
        yield spot.at("caller_id").warning(
            f"{show(bare[0].extension)} has no number that this connection could show, so its extension is shown. "
            "Set one for the tenant, or for each user."
        )
