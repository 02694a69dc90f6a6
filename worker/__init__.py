"""The Celery workers: supernet training, sub-network evaluation, GCN fitting."""
