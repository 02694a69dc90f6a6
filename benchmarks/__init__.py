"""Benchmarks: one runnable module per claim of the README."""

import os

from app.thread_waiting import THREAD_WAITING

# as the service's own processes have it: threads that spin for long make every figure of a busy machine useless
for _name, _value in THREAD_WAITING.items():
    os.environ.setdefault(_name, _value)
