"""The HTTP servers that are compared, with two workers each."""

from __future__ import annotations

from benchmarks.entry import Entry

_SERVERS = "prefork_peers.servers"

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("aioipc", _SERVERS, "Aioipc"),
        Entry("aioipc-hypercorn", _SERVERS, "AioipcHypercorn"),
        Entry("uvicorn", _SERVERS, "Uvicorn", "uvicorn"),
        Entry("hypercorn", _SERVERS, "Hypercorn", "hypercorn"),
        Entry("granian", _SERVERS, "Granian", "granian"),
        Entry("gunicorn-uvicorn", _SERVERS, "GunicornUvicorn", "uvicorn-worker"),
        Entry("gunicorn-asgi", _SERVERS, "GunicornAsgi", "gunicorn"),
        Entry("gunicorn-gthread", _SERVERS, "GunicornThreads", "gunicorn"),
        Entry("gunicorn-sync", _SERVERS, "Gunicorn", "gunicorn"),
    )
}
