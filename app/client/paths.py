"""The paths of the API. Names and ids go into paths here and nowhere else, so that none can lead to another resource.

Quoting alone would not do: ``.`` and ``..`` stay as they are, and a quoted slash is one again for the service's routes.
So what is put into a path is first held against what it may be.
"""

import uuid
from urllib.parse import quote

from app.client.errors import BadNameError
from app.domain.names import DATA_SET_NAME_PATTERN, DEVICE_NAME_PATTERN, check_name


def search_path(search_id: uuid.UUID | str, *parts: str) -> str:
    """Return the path of a search or job, or of a part of it.

    Raises:
        BadNameError: If the id is none.
    """
    try:
        known = uuid.UUID(str(search_id))
    except ValueError:
        raise BadNameError(
            f"a search's id is a UUID, such as 0198c1de-5b7a-7c3e-9d55-0f6b3a1c2d4e, not {str(search_id)[:100]!r}"
        ) from None
    return _joined("search", str(known), *parts)


def architecture_path(search_id: uuid.UUID | str, code: str, *parts: str) -> str:
    """Return the path of an architecture of a search, or of a part of it.

    Raises:
        BadNameError: If the id or the code is none.
    """
    if not (code.isascii() and code.isdigit()):
        raise BadNameError(f"an architecture's code has one digit per cell, its choice; not {code[:100]!r}")
    return search_path(search_id, "architectures", code, *parts)


def device_path(name: str, *parts: str) -> str:
    """Return the path of a device, or of a part of it.

    Raises:
        BadNameError: If the API takes no such name.
    """
    return _joined("devices", _named(name, DEVICE_NAME_PATTERN), *parts)


def data_set_path(name: str) -> str:
    """Return the path of a data set.

    Raises:
        BadNameError: If the API takes no such name.
    """
    return _joined("datasets", _named(name, DATA_SET_NAME_PATTERN))


def _named(name: str, pattern: str) -> str:
    try:
        check_name(name, pattern)
    except ValueError as error:
        raise BadNameError(str(error)) from None
    return name


def _joined(*parts: str) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in parts)
