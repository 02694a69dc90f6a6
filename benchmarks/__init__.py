"""Benchmarks: one runnable module per claim of the README."""

import os

# as the service's own processes have it: threads that spin for long make every figure of a busy machine useless
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "600")
