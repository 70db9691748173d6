"""The provider's view of its tenants: list, detail, suspend, enter as support."""
