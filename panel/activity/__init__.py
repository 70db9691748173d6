"""The audit as people read it: a tenant's activity log, and the provider's audit log."""
