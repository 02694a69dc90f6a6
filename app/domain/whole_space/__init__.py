"""Answers over the whole search space, beyond the paper: one more predictor, and its best under any limits."""
