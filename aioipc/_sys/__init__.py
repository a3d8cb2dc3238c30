"""Floor 1: system calls only; no asyncio, no threads of its own."""
