"""The pool in twelve lines."""

import aioipc


def count_words(text: str) -> int:
    return len(text.split())


async def main() -> None:
    async with aioipc.Pool(workers=2) as pool:
        print(await pool.run(count_words, "to be or not to be"))
        async for count in pool.map(count_words, ["one", "one two", "one two three"]):
            print(count)


aioipc.run(main)
