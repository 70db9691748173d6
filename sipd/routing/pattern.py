"""Patterns of outbound rules: what is dialled, digit by digit, with at most one wildcard, at the end.

Each item takes exactly one character and only the end is open, so that a match is one walk over the
pattern: there is nothing to go back to, whatever is dialled.
"""

from __future__ import annotations

from typing import NamedTuple

from sipd.routing.problem import show

MAX_PATTERN = 64
"""Characters of a pattern."""
DIGITS = "0123456789"
CLASSES = {"X": frozenset(DIGITS), "Z": frozenset("123456789"), "N": frozenset("23456789")}
LITERALS = frozenset(DIGITS + "*")
AT_LEAST_ONE, ANY = ".", "!"
"""Ends of a pattern: one character or more; any number of them."""


class Pattern(NamedTuple):
    """A compiled pattern: which characters may stand at each place, and how it ends."""

    items: tuple[frozenset[str], ...]
    end: str
    """"" , `AT_LEAST_ONE` or `ANY`."""

    def matches(self, dialled: str) -> bool:
        """Whether the pattern takes the whole of what was dialled."""
        rest = len(dialled) - len(self.items)
        if rest < (self.end == AT_LEAST_ONE) or (rest > 0 and not self.end):
            return False
        return all(character in item for character, item in zip(dialled, self.items, strict=False))

    def covers(self, other: Pattern) -> bool:
        """Whether this one takes all that `other` takes."""
        if not self.end and other.end:
            return False
        if not self.end and len(other.items) != len(self.items):
            return False
        shortest = len(other.items) + (other.end == AT_LEAST_ONE)
        if shortest < len(self.items) + (self.end == AT_LEAST_ONE):
            return False
        if len(self.items) > len(other.items):  # the open end of `other` may be any character here
            return False
        return all(theirs <= mine for mine, theirs in zip(self.items, other.items, strict=False))


def parse_pattern(text: str) -> Pattern:
    """Compile a pattern. Raises ValueError with a sentence."""
    if len(text) > MAX_PATTERN:
        raise ValueError(f"{show(text)} has {len(text)} characters; the limit for a pattern is {MAX_PATTERN}.")
    end = text[-1:] if text[-1:] in (AT_LEAST_ONE, ANY) else ""
    rest = text.removesuffix(end)
    items: list[frozenset[str]] = []
    while rest:
        item, rest = _next(text, rest, first=not items)
        items.append(item)
    if not items and not end:
        raise ValueError("The pattern is empty; write one, or leave it out.")
    return Pattern(tuple(items), end)


def of_prefix(prefix: str) -> Pattern:
    """The pattern that takes what begins with this."""
    return Pattern(tuple(frozenset(character) for character in prefix), ANY)


def _next(text: str, rest: str, first: bool) -> tuple[frozenset[str], str]:
    character = rest[0]
    if character in CLASSES:
        return CLASSES[character], rest[1:]
    if character in LITERALS or (character == "+" and first):
        return frozenset(character), rest[1:]
    if character == "[":
        inside, bracket, after = rest[1:].partition("]")
        if not bracket:
            raise ValueError(f"{show(text)} has a [ without its ]; write a choice of digits like [1-35].")
        return _choice(text, inside), after
    raise ValueError(_fault(text, character))


def _choice(text: str, inside: str) -> frozenset[str]:
    """`1-35` is 1, 2, 3 or 5."""
    found: set[str] = set()
    place = 0
    while place < len(inside):
        low = inside[place]
        if inside[place + 1 : place + 2] == "-" and place + 2 < len(inside):
            high = inside[place + 2]
            if low not in DIGITS or high not in DIGITS or low > high:
                raise ValueError(f"{show(text)} has the range {show(low + '-' + high)}; ranges go upwards, like 1-3.")
            found |= set(DIGITS[int(low) : int(high) + 1])
            place += 3
        elif low in LITERALS:
            found.add(low)
            place += 1
        else:
            raise ValueError(f"{show(text)} has {show(low)} inside [ ]; only digits, * and ranges like 1-3 go there.")
    if not found:
        raise ValueError(f"{show(text)} has [ ] with nothing inside; write a choice of digits like [1-35].")
    return frozenset(found)


def _fault(text: str, character: str) -> str:
    if character == "_":
        return f"{show(text)} has a _; write the pattern without it."
    if character in "xzn":
        return f"{show(text)} has a {character}; write {character.upper()}, in upper case."
    if character in (AT_LEAST_ONE, ANY):
        return f"{show(text)} has a {character} before its end; {character} goes last only."
    if character == "+":
        return f"{show(text)} has a + in the middle; + goes in front only."
    return (
        f"{show(text)} has {show(character)}, which no pattern takes; it takes digits, *, X, Z, N, [1-35], + in front, "
        "and . or ! at the end."
    )
