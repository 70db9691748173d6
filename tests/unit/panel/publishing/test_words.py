"""What became of a publication, in one sentence."""

import pytest

from panel.publishing.delivery import Outcome
from panel.publishing.service import Published
from panel.publishing.words import milliseconds, verdict

pytestmark = pytest.mark.unit
APPLIED = Outcome("local", "applied", 3.14)
AWAY = Outcome("far", "unreachable")


@pytest.mark.parametrize(
    ("published", "kind", "words"),
    [
        (Published(4, True, "", outcomes=[APPLIED]), "success", "version 4 is enforced, 3.1 ms"),
        (Published(4, True, "", outcomes=[APPLIED, AWAY]), "warning", "as soon as far is back"),
        (Published(4, True, "", outcomes=[Outcome("n", "refused", message="Bad.")]), "danger", "n refused it. Bad."),
        (Published(4, False, "", outcomes=[Outcome("n", "applied")]), "success", "Nothing was left to publish"),
        (Published(4, True, "", held=frozenset("t"), outcomes=[APPLIED]), "warning", "What has errors stays"),
        (Published(4, False, "", held=frozenset("t")), "danger", "Nothing went live"),
    ],
)
def test_verdict(published: Published, kind: str, words: str) -> None:
    text, found = verdict(published)
    assert found == kind
    assert words in text


@pytest.mark.parametrize(("ms", "text"), [(0.04, "0.0 ms"), (9.94, "9.9 ms"), (140.2, "140 ms"), (1300.0, "1.3 s")])
def test_milliseconds(ms: float, text: str) -> None:
    assert milliseconds(ms) == text
