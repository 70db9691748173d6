"""Public numbers of a tenant, and which connection takes the numbers that its users dial."""
