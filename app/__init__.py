"""The NAS Atlas service: everything that runs without torch."""
