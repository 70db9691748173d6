"""The example cast, for trying things out and for tests."""

from panel.seeding.service import CastLine, seed

__all__ = ["CastLine", "seed"]
