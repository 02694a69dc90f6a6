"""What servers and the stack have in common: started on entering a context, stopped on leaving it."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self


class Startable(ABC):
    """Something that runs between ``start`` and ``stop``, and as a context manager."""

    @abstractmethod
    def start(self) -> Any:
        """Start it; what it returns is the class's own."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it; does nothing where it does not run."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
