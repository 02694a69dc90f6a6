"""What resources may be called, as a pattern for machines and in words for people."""

import re

DEVICE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
DATA_SET_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
SPACE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

_CHARACTERS = "letters, digits, dots, underscores and hyphens, the first a letter or a digit"
_IN_WORDS = {
    DEVICE_NAME_PATTERN: f"a device's name is 1 to 64 characters long: {_CHARACTERS}",
    DATA_SET_NAME_PATTERN: f"a data set's name is 1 to 100 characters long: {_CHARACTERS}",
    SPACE_NAME_PATTERN: f"a search space's name has only {_CHARACTERS}",
}


def in_words(pattern: str) -> str | None:
    """Return what a name of one of these patterns may be; None for other patterns."""
    return _IN_WORDS.get(pattern)


def check_name(name: str, pattern: str) -> None:
    """Check that a name is one that the API takes.

    Raises:
        ValueError: If it is not; says what it may be.
    """
    # a full match, as pydantic's: by itself Python's $ would let a last line end through
    if re.fullmatch(pattern, name) is None:
        raise ValueError(f"{_IN_WORDS[pattern]}; not {name[:100]!r}")
