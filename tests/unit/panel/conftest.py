"""The cast, for all unit tests of the panel."""

from tests.panel_fixtures import *  # noqa: F403
from tests.panel_fixtures import _quick_passwords  # noqa: F401
