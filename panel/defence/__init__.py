"""The provider's protection of all nodes: networks allowed and blocked, guards for all tenants, sources banned now."""
