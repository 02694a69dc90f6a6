"""Turns what pydantic and the domain say about wrong values into field errors that help."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from app.domain.names import in_words
from app.errors import FieldError

_SHAPES = {
    "tuple_type": "must be a list in square brackets",
    "dict_type": "must be a JSON object in curly braces",
    "dataclass_type": "must be a JSON object in curly braces",
}
_EXAMPLES = {
    "cells_ms": "[[0.1, 0.6], [0.2, 0.9]]: a list per cell, with a number per choice",
    "device_latencies": '{"pixel": {"base_ms": 1.5, "cells_ms": [[0.1, 0.6], [0.2, 0.9]]}}',
    "target_latency_ms": '{"pixel": [30, 20]}',
}
_UNION_TAGS = frozenset({"name", "space"})
_LITERAL = re.compile(r"literal\[.*\]")
"""How pydantic names, at the end of a place, that a word was expected there; beside it stands the kind of number."""


def field_errors(error: ValueError, *loc: str, model: type[BaseModel] | None = None) -> list[FieldError]:
    """Return what a ``ValueError`` says, at the given place; of pydantic's, each of its errors at its own place.

    Args:
        error: What was raised.
        loc: Where the value stood.
        model: The model that was validated, to suggest its names where one is misspelt.
    """
    if isinstance(error, ValidationError):
        return from_details(error.errors(include_url=False, include_input=False), loc, model)
    return [FieldError(loc=list(loc), msg=str(error))]


def from_details(
    details: Iterable[Mapping[str, Any]],
    prefix: Sequence[str | int] = (),
    model: type[BaseModel] | None = None,
) -> list[FieldError]:
    """Return pydantic's error details as field errors, each once."""
    found: list[FieldError] = []
    for detail in _together(_true_ones(list(details))):
        path = _without_tag(detail["loc"])
        msg = detail["msg"].removeprefix("Value error, ")
        if detail["type"] in ("too_short", "too_long"):
            msg = msg.replace("Tuple", "List").replace("Dictionary", "Object").replace(" after validation", "")
        if detail["type"] in _SHAPES:
            msg = _shape(detail["type"], path)
        if detail["type"] == "string_pattern_mismatch":
            msg = in_words(detail.get("ctx", {}).get("pattern", "")) or msg
            path = path[:-1] if path[-1:] == ("[key]",) else path
        if detail["type"] == "extra_forbidden" and model is not None:
            msg = _unknown_field(str(path[-1]), model, path)
        if detail["type"] == "json_invalid" and "error" in detail.get("ctx", {}):
            # FastAPI puts the position where a field's name would stand
            reason = f"{detail['ctx']['error']} at position {path[-1]}"
            msg = f"the body is no JSON ({reason}); send one JSON object in curly braces"
            path = path[:-1]
        error = FieldError(loc=[*prefix, *path], msg=msg)
        if error not in found:
            found.append(error)
    return found


def _shape(kind: str, path: Sequence[str | int]) -> str:
    """What a value should look like in JSON; pydantic names Python's types."""
    example = next((text for name, text in _EXAMPLES.items() if name in path), None)
    if example is None and kind == "tuple_type":
        example = "[512, 512]; segments are a list of such lists"
    return _SHAPES[kind] + (f", e.g. {example}" if example else "")


def _true_ones(details: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Details without lists that pydantic finds too short because it has left their wrong items out."""
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(
            len(other["loc"]) > len(detail["loc"]) and other["loc"][: len(detail["loc"])] == detail["loc"]
            for other in details
        )
    ]


def _together(details: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Details with one for each value that may be a number or a word, instead of one for each of both."""
    found = list(details)
    for word in details:
        loc = word["loc"]
        if loc and _LITERAL.fullmatch(str(loc[-1])):
            number = next(
                (d for d in found if d is not word and len(d["loc"]) == len(loc) and d["loc"][:-1] == loc[:-1]), None
            )
            if number is not None:
                msg = f"{number['msg']}, or {word['msg'].removeprefix('Input should be ')}"
                found[found.index(number)] = {**number, "loc": loc[:-1], "msg": msg}
                found.remove(word)
    return found


def _without_tag(loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """A place as users see it: without pydantic's note which kind of search space it took the value for."""
    return tuple(
        part
        for position, part in enumerate(loc)
        if not (part in _UNION_TAGS and position and loc[position - 1] == "search_space")
    )


def _unknown_field(name: str, model: type[BaseModel], path: Sequence[str | int]) -> str:
    names = _field_names(model, [part for part in path[:-1] if isinstance(part, str) and part != "body"])
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"there is no field {name[:80]!r}; did you mean {' or '.join(close)}?"
    return f"there is no field {name[:80]!r}; there are {', '.join(sorted(names))}"


def _field_names(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The fields of the model that lies at a path of field names inside a model."""
    for part in path:
        if part not in model.model_fields:
            break
        inner = _model_inside(model.model_fields[part].annotation)
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _model_inside(part)) is not None), None)
