"""The peak memory of a process and of all that it started: servers count as what they serve."""

import contextlib
import resource
import threading
from types import TracebackType
from typing import Self

import psutil

_INTERVAL_S = 0.1


class PeakMemory:
    """Samples the memory of this process and its descendants while it is entered.

    Pages that several processes share count once (proportional set size), so that PostgreSQL's buffers do not count
    for every connection.

    Attributes:
        mb: The largest sum seen, at least this process's own peak since it began.
    """

    def __init__(self) -> None:
        self.mb = 0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._sampler.join()
        self.mb = max(self.mb, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)

    def _sample(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(_INTERVAL_S):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):  # it has ended, or is another user's
                    total += process.memory_full_info().pss
            self.mb = max(self.mb, total >> 20)
