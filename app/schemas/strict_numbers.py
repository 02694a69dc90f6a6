"""Numbers in a body are numbers: ``true`` is no 1."""

from typing import Any

from pydantic import ValidationInfo


def refuse_boolean(cls: Any, value: Any, info: ValidationInfo) -> Any:
    """Pass on the value of a field, unless it is, or lists, a boolean where the field holds none.

    Raises:
        ValueError: If it does.
    """
    assert info.field_name is not None
    if cls.model_fields[info.field_name].annotation is bool:
        return value
    if isinstance(value, list):
        for item in value:
            refuse_boolean(cls, item, info)
    if isinstance(value, bool):
        raise ValueError(f"must not be {str(value).lower()}; write numbers as numbers and texts as texts")
    return value
