"""Ring groups of a tenant: one extension that rings several users."""
