"""Benchmarks: one runnable module per claim of the README."""

import os

# as the service's own processes have it: threads that spin while they wait make every figure of a busy machine useless
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
