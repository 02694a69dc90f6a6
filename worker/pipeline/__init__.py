"""Algorithm 1 of the paper as steps over ports; no queue, no database."""
