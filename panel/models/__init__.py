"""The tables, and nothing else: rules live in services, checks of input in forms."""

from panel.models.history import AuditEntry, CallRecord, Event, EventCursor
from panel.models.installation import InstallationGuard, SourceRule
from panel.models.people import (
    Account,
    AccountSession,
    EmailToken,
    Membership,
    OutboxMail,
    SetupToken,
    SupportSession,
)
from panel.models.publishing import Node, NodeApplied, Part, Publication
from panel.models.tenancy import (
    Connection,
    Domain,
    Group,
    GroupMember,
    Guard,
    Number,
    OutboundRule,
    Schedule,
    Tenant,
    UpstreamAccount,
    User,
)

__all__ = [
    "Account",
    "AccountSession",
    "AuditEntry",
    "CallRecord",
    "Connection",
    "Domain",
    "EmailToken",
    "Event",
    "EventCursor",
    "Group",
    "GroupMember",
    "Guard",
    "InstallationGuard",
    "Membership",
    "Node",
    "NodeApplied",
    "Number",
    "OutboundRule",
    "OutboxMail",
    "Part",
    "Publication",
    "Schedule",
    "SetupToken",
    "SourceRule",
    "SupportSession",
    "Tenant",
    "UpstreamAccount",
    "User",
]
