"""The services of aioipc: those of ``examples/asgi_prefork.py``, with the application that all serve."""

from __future__ import annotations

from examples import asgi_prefork

from .applications import asgi

asgi_prefork.app = asgi
serve_uvicorn, serve_hypercorn = asgi_prefork.serve_uvicorn, asgi_prefork.serve_hypercorn
