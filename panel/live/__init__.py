"""Calls of a tenant: those in progress, and the records of those that ended."""
