"""The networks: supernet, evaluation, GCN (torch)."""
