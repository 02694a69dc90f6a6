"""Numbers in a body are numbers: ``true`` is no 1."""

from typing import Any

from pydantic import ValidationInfo

from app.domain.strict_numbers import check_no_boolean


def refuse_boolean(cls: Any, value: Any, info: ValidationInfo) -> Any:
    """Pass on the value of a field, unless it is, or lists, a boolean where the field holds none.

    Raises:
        ValueError: If it does.
    """
    assert info.field_name is not None
    if cls.model_fields[info.field_name].annotation is not bool:
        check_no_boolean(value)
    return value
