"""The one-time link that creates the provider's first account. There is no default password."""
