"""Connections of a tenant to its PBXs, with the multi-tenant mode switch."""
