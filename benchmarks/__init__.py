"""aioipc beside its peers, in one run: ``python -m benchmarks pool``, ``channels`` or ``prefork``."""
