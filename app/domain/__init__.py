"""The paper's torch-free concepts; they know no web framework, queue or database."""
