"""Checks of connections where phones register at the PBX themselves, and the edge only relays."""

from __future__ import annotations

from sipd.routing.checks_scope import Problems
from sipd.routing.model import Connection, UpstreamAccount
from sipd.routing.problem import Spot, show


def check_internal_calls(spot: Spot, connection: Connection) -> Problems:
    """The phone answers the PBX's challenges, so its calls have to reach the PBX."""
    if connection.strategy == "relay" and connection.internal_calls != "through_pbx":
        yield spot.at("internal_calls").warning(
            f"Calls between users cannot go as {show(connection.internal_calls)} says: those of users whose phones "
            "register at the PBX always go through the PBX. Let internal calls go through it."
        )


def check_relayed_account(spot: Spot, account: UpstreamAccount) -> Problems:
    """The account of a user whose phone holds the password."""
    if not account.username:
        yield spot.at("username").warning(
            "The user name at the PBX is missing, so no phone of this user can register there. Add it."
        )
    if account.password:
        yield spot.at("password").warning(
            "The password at the PBX is not used: with this connection the phone has it. Remove it here."
        )
