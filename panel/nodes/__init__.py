"""The provider's view of its nodes: what each runs, since when, and how fast it takes a publication."""
