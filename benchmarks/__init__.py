"""aioipc beside its peers, in one run: ``python -m benchmarks pool``, ``python -m benchmarks channels``."""
