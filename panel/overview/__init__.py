"""A tenant's first page: where it stands, and the next step."""
