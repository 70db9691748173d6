"""From what a browser sent to an input model, and back to the page with every problem beside its field."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.datastructures import MultiDict

from panel.errors import Invalid
from sipd.routing.checks_text import caller_id_fault, guarded_fault


class Input(BaseModel):
    """Base of all input models: surrounding spaces mean nothing, unknown fields are ignored."""

    model_config = ConfigDict(str_strip_whitespace=True, frozen=True, extra="ignore")


def shown_number(text: str) -> str:
    """A number that is shown, as people write it: what is for reading only is left out. Raises ValueError."""
    bare = "".join(character for character in text if character not in " /.-()")
    shown = bare if bare.removeprefix("+").isdigit() else text
    if fault := caller_id_fault(shown):
        raise ValueError(fault)
    return shown


def guarded_prefix(text: str) -> str:
    """The beginning of numbers that a guard is for, without what is for reading only. Raises ValueError."""
    bare = "".join(character for character in text if character not in " /.-()")
    if fault := guarded_fault(bare):
        raise ValueError(fault)
    return bare


Prefix = AfterValidator(guarded_prefix)

I = TypeVar("I", bound=Input)  # noqa: E741

SENTENCES = {
    "missing": "Please fill this in.",
    "string_too_short": "At least {min_length} characters, please.",
    "string_too_long": "At most {max_length} characters; this has {length}.",
    "int_parsing": "“{input}” is not a whole number.",
    "int_type": "Please give a whole number.",
    "greater_than_equal": "{input} is too low; the lowest is {ge}.",
    "less_than_equal": "{input} is too high; the highest is {le}.",
    "literal_error": "“{input}” is not one of the choices.",
    "bool_parsing": "“{input}” is neither on nor off.",
}


class Form(Generic[I]):
    """What a template needs of a form: `values` as they were typed, `errors` by field name."""

    def __init__(self, model: type[I], values: dict[str, Any]) -> None:
        self.model = model
        self.values = values
        self.errors: dict[str, str] = {}
        self.data: I | None = None

    @classmethod
    def blank(cls, model: type[I], **values: Any) -> Form[I]:
        """The form before anything was sent: given values, else the model's defaults."""
        defaults = {
            name: field.get_default(call_default_factory=True, validated_data={})
            for name, field in model.model_fields.items()
            if not field.is_required()
        }
        return cls(model, {**defaults, **values})

    @classmethod
    def submitted(cls, model: type[I], sent: MultiDict[str, str]) -> Form[I]:
        """Read and check what was sent. A checkbox that is off is not sent: it counts as false."""
        form = cls(model, _values(model, sent))
        try:
            form.data = model.model_validate(form.values)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                form.errors.setdefault(str(problem["loc"][0]) if problem["loc"] else "", _sentence(problem))
        return form

    def valid(self) -> I:
        """The checked input; `Invalid` where there is none."""
        if self.data is None:
            raise Invalid(**self.errors)
        return self.data

    def add(self, error: Invalid) -> None:
        """Take over what a service found."""
        self.errors.update(error.problems)


def _values(model: type[Input], sent: MultiDict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.annotation is bool:
            values[name] = name in sent and sent[name] not in ("", "0", "false", "off")
        elif get_origin(field.annotation) in (list, tuple):
            values[name] = sent.getlist(name)
        elif name in sent:
            values[name] = _text(field.annotation, sent[name])
    return values


def _text(annotation: Any, text: str) -> str | None:
    """An empty field means "not set" where the model allows None."""
    optional = type(None) in getattr(annotation, "__args__", ())
    return None if optional and not text.strip() else text


def _sentence(problem: ErrorDetails) -> str:
    kind = problem["type"]
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if kind == "string_too_short" and not str(problem["input"]).strip():
        return SENTENCES["missing"]
    if kind not in SENTENCES:
        return problem["msg"]
    values = {**problem.get("ctx", {}), "input": problem["input"], "length": len(str(problem["input"]))}
    return SENTENCES[kind].format_map(values)
