"""Business hours of a tenant: weekly openings, holidays, a time zone."""
