"""One runnable module per claim of the README."""
