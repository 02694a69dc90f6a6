"""The service from Python: typed calls, whose answers are the service's own schemas."""

from types import TracebackType
from typing import Self

import httpx2

from app.client.architectures import ArchitectureCalls
from app.client.data_sets import DataSetCalls
from app.client.devices import DeviceCalls
from app.client.searches import SearchCalls
from app.client.transport import Transport
from app.settings import get_settings

DEFAULT_URL = "http://127.0.0.1:8000"


class NasAtlas(SearchCalls, ArchitectureCalls, DeviceCalls, DataSetCalls):
    """A connection to the service; a context manager. Safe to use from one thread at a time.

    Args:
        url: Its address; by default ``NASATLAS_URL``, or port 8000 of this machine.
        api_key: An API key; by default ``NASATLAS_API_KEY``.
        transport: For tests: what carries the requests.

    Raises:
        BadAddressError: If the address is none.
        BadKeyError: If the key cannot be one.

    A name, an id or a code that the service would not take is refused here, with a
    :class:`~app.client.errors.BadNameError`; it never becomes the path of something else.
    Every call raises :class:`~app.client.errors.UnreachableError` where nobody answers, and a
    :class:`~app.client.errors.ProblemError` where the service says no.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, transport: httpx2.BaseTransport | None = None
    ) -> None:
        settings = get_settings()
        if api_key is None and settings.api_key is not None:
            api_key = settings.api_key.get_secret_value()
        super().__init__(Transport(url or settings.url or DEFAULT_URL, api_key, transport=transport))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._api.close()
