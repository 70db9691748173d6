"""Users of a tenant: who they are, their phones, and what they are at each PBX."""
