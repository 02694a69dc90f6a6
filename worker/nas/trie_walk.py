"""Threads that share one depth-first walk over a trie."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

import torch

Task = TypeVar("Task")

_POLL_S = 0.2


class TrieWalk(Generic[Task]):
    """A last-in-first-out list of tasks, worked off by threads; finishing a task may add its children.

    Last in, first out is depth first: what a parent computed is freed as soon as its last child has taken it, and all
    threads stay near each other in the trie. Each thread runs torch on one core, so no number depends on their count.
    """

    def __init__(self, visit: Callable[[Task], Sequence[Task]]) -> None:
        self._visit = visit
        self._tasks: list[Task] = []
        self._num_open = 0
        self._stopped = False
        self._changed = threading.Condition()

    def run(self, tasks: Sequence[Task], *, num_threads: int, while_waiting: Callable[[], None]) -> None:
        """Work off tasks and all that follow from them.

        Args:
            tasks: The first ones; the first of them is taken first.
            num_threads: Walkers.
            while_waiting: Called in the calling thread several times a second; what it raises stops the walk and is
                passed on, as is what a visit raises.
        """
        # a walk that has ended can be taken again
        self._tasks, self._num_open, self._stopped = [], 0, False
        self._add(tasks)
        with ThreadPoolExecutor(num_threads, thread_name_prefix="trie-walk") as pool:
            walkers = [pool.submit(self._work) for _ in range(num_threads)]
            try:
                while wait(walkers, timeout=_POLL_S, return_when=FIRST_EXCEPTION).not_done:
                    for walker in walkers:
                        if walker.done():
                            walker.result()
                    while_waiting()
            finally:
                self._stop()
        for walker in walkers:
            walker.result()

    def _add(self, tasks: Sequence[Task]) -> None:
        with self._changed:
            self._tasks.extend(reversed(tasks))
            self._num_open += len(tasks)
            self._changed.notify_all()

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._tasks.clear()
            self._changed.notify_all()

    def _next(self) -> Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._stopped or not self._num_open)
            return self._tasks.pop() if self._tasks and not self._stopped else None

    def _work(self) -> None:
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                while (task := self._next()) is not None:
                    children = self._visit(task)
                    del task  # its activations must not outlive it while this thread waits
                    if children:
                        self._add(children)
                    with self._changed:
                        self._num_open -= 1
                        if not self._num_open:
                            self._changed.notify_all()
        except BaseException:
            self._stop()
            raise
