"""Numbers are numbers: Python and pydantic take ``true`` for 1, and would store what nobody has written."""


def check_no_boolean(value: object) -> None:
    """Check that a value is no boolean, and no list with one in it.

    Raises:
        ValueError: If it is.
    """
    if isinstance(value, list | tuple):
        for item in value:
            check_no_boolean(item)
    if isinstance(value, bool):
        raise ValueError(f"must not be {str(value).lower()}; write numbers as numbers and texts as texts")
