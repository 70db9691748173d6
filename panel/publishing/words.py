"""What became of a publication, as a sentence for people. Pure."""

from __future__ import annotations

from panel.publishing.service import Published


def verdict(published: Published) -> tuple[str, str]:
    """(sentence, kind of toast)."""
    if published.refused:
        node = published.refused[0]
        return f"Not live: {node.node} refused it. {node.message}", "danger"
    if published.waiting:
        names = ", ".join(outcome.node for outcome in published.waiting)
        return f"Stored as version {published.version}. It goes live as soon as {names} is back.", "warning"
    if published.held and not published.changed:
        return "Nothing went live: please correct what is wrong first.", "danger"
    if published.held:
        return f"{_live(published)} What has errors stays as it was.", "warning"
    if not published.changed:
        return "Nothing was left to publish: everything that is saved is live.", "success"
    return _live(published), "success"


def enforced(published: Published) -> str:
    """What a suspension, or the end of one, did to calls; as a sentence."""
    if not published.changed:
        return "Nothing of it was live."
    if published.waiting or published.refused:
        return verdict(published)[0]
    return f"Enforced {milliseconds(published.ms)} after the edge got it." if published.ms is not None else "Enforced."


def milliseconds(ms: float) -> str:
    """As people read it: `3.2 ms`, `140 ms`, `1.3 s`."""
    if ms < 10:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _live(published: Published) -> str:
    if published.ms is None:
        return f"Version {published.version} is live."
    return f"Live: version {published.version} is enforced, {milliseconds(published.ms)} after the edge got it."
