"""How the threads of a computation wait for each other, for GNU OpenMP (read as torch is loaded)."""

from collections.abc import Mapping

THREAD_WAITING: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "600"}
"""Environment variables: they spin for microseconds.

For longer, they slow each other down on a machine that does more than this; not at all, they are woken too late
(docs/performance.md).
"""
