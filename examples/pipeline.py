"""Pipelines of programs and a function: the most frequent words of this file, and what a failure says."""

import asyncio
import re

import aioipc


async def words(receive: aioipc.PipeReceiveStream, send: aioipc.PipeSendStream) -> None:
    """One word a line; the programs around it run in processes of their own, this in our loop."""
    async for line in receive.lines():
        for word in re.findall(r"[a-z]+", line.lower()):
            await send.send(word.encode() + b"\n")


async def main() -> None:
    async with await aioipc.open_pipeline(
        ["cat", __file__], words, ["sort"], ["uniq", "-c"], ["sort", "-rn"]
    ) as pipeline:
        async for line in pipeline.stdout.lines():
            print(line)
            if line.split()[0] == "1":
                break  # leaving early ends all of them
    print("exit codes:", *pipeline.returncodes)

    done = await aioipc.run_pipeline(["tr", "a-z", "A-Z"], ["rev"], input=b"hello world\n", check=True)
    print(done.stdout.decode(), end="")

    try:
        await aioipc.run_pipeline(["echo", "x"], ["sh", "-c", "echo oh no >&2; exit 3"], ["cat"], check=True)
    except aioipc.PipelineError as error:
        print(error)


asyncio.run(main())
