"""Guards of a tenant against toll fraud: how often its users may call expensive numbers, and when."""
