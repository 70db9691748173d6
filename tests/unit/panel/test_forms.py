"""From what a browser sent to an input model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field
from werkzeug.datastructures import MultiDict

from panel.auth.forms import SignIn, checked_email
from panel.errors import Invalid
from panel.forms import Form, Input


def refused(text: str) -> str:
    if text == "bad":
        raise ValueError("“bad” is bad.")
    return text


class Sample(Input):
    name: Annotated[str, Field(min_length=2, max_length=5), AfterValidator(refused)]
    count: int = Field(default=3, ge=1, le=9)
    limit: int | None = None
    on: bool = False
    kind: Literal["a", "b"] = "a"
    tags: list[str] = Field(default_factory=list)


def sent(**values: Any) -> Form[Sample]:
    return Form.submitted(Sample, MultiDict({"name": "abc", **values}))


def test_a_blank_form_has_the_defaults() -> None:
    form = Form.blank(Sample, name="x")
    assert form.values == {"name": "x", "count": 3, "limit": None, "on": False, "kind": "a", "tags": []}
    assert (form.errors, form.data) == ({}, None)


def test_what_was_sent_is_read() -> None:
    data = sent(count="4", limit=" ", on="1", tags=["x", "y"], other="ignored").valid()
    assert data == Sample(name="abc", count=4, limit=None, on=True, kind="a", tags=["x", "y"])


@pytest.mark.parametrize("off", ["", "0", "false", "off"])
def test_a_switch_that_is_off(off: str) -> None:
    assert sent(on=off).valid().on is False
    assert sent().valid().on is False


@pytest.mark.parametrize(
    ("values", "field", "sentence"),
    [
        ({"name": ""}, "name", "Please fill this in."),
        ({"name": "  "}, "name", "Please fill this in."),
        ({"name": "a"}, "name", "At least 2 characters, please."),
        ({"name": "abcdef"}, "name", "At most 5 characters; this has 6."),
        ({"name": "bad"}, "name", "“bad” is bad."),
        ({"count": "x"}, "count", "“x” is not a whole number."),
        ({"count": "0"}, "count", "0 is too low; the lowest is 1."),
        ({"count": "10"}, "count", "10 is too high; the highest is 9."),
        ({"kind": "c"}, "kind", "“c” is not one of the choices."),
    ],
)
def test_problems_are_plain_sentences(values: dict[str, str], field: str, sentence: str) -> None:
    form = sent(**values)
    assert form.errors == {field: sentence}
    assert form.data is None
    with pytest.raises(Invalid, match=r".") as refusal:
        form.valid()
    assert refusal.value.problems == form.errors


def test_a_missing_field_is_asked_for() -> None:
    assert Form.submitted(Sample, MultiDict()).errors == {"name": "Please fill this in."}


def test_problems_of_a_service_join_the_form() -> None:
    form = sent()
    form.add(Invalid(name="Taken."))
    assert form.errors == {"name": "Taken."}


@given(st.dictionaries(st.sampled_from(["name", "count", "limit", "on", "kind", "tags", "{x}"]), st.text()))
def test_reading_never_fails(values: dict[str, str]) -> None:
    form = Form.submitted(Sample, MultiDict(values))
    assert (form.data is None) == bool(form.errors)


@given(st.text(), st.text())
def test_signing_in_with_anything_is_read(email: str, password: str) -> None:
    form = Form.submitted(SignIn, MultiDict({"email": email, "password": password}))
    if form.data is not None:
        assert form.data.password == password


@pytest.mark.parametrize(("typed", "kept"), [("A@B.Example", "a@b.example"), ("ö@ö.example", "ö@ö.example")])
def test_addresses_have_one_spelling(typed: str, kept: str) -> None:
    assert checked_email(typed) == kept


@pytest.mark.parametrize(
    "typed", ["", "a", "a@", "@b", "a@b\n.example", "a b@c.example", "a@b..example", "x" * 300 + "@a.example"]
)
def test_what_is_no_address(typed: str) -> None:
    with pytest.raises(ValueError, match="no e-mail address"):
        checked_email(typed)
