"""Examples for a first look; a second time changes nothing, and what they make can be published."""

from __future__ import annotations

import pytest
from sqlmodel import select

from panel import seeding
from panel.models import Connection, Group, GroupMember, Guard, InstallationGuard, Number, Schedule, SourceRule
from panel.publishing import checks
from tests.cast import TESTER, Cast

pytestmark = pytest.mark.unit


KINDS = (Schedule, Group, GroupMember, Number, Connection, Guard, InstallationGuard, SourceRule)


def test_examples(cast: Cast) -> None:
    for _ in range(2):
        with cast.app.app_context(), cast.database.session() as session:
            seeding.seed(session, TESTER, cast.config, examples=True)
    with cast.everything() as session:
        counted = [len(session.exec(select(kind)).all()) for kind in KINDS]
    assert counted == [2, 2, 4, 2, 2, 2, 1, 1]
    with cast.app.app_context(), cast.scope() as scope:
        assert not [problem for problem in checks.problems_of(scope) if problem.is_error]
