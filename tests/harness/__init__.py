"""What our own tests share beyond `aioipc.testing`: scripts, hostile surroundings, pages, imports."""
