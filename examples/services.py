"""Two replicas of a service on one socket: one is killed and comes back, then all are reloaded under load.

python examples/services.py
"""

import asyncio
import os
import signal

import aioipc


async def serve(worker: aioipc.WorkerContext) -> None:
    async def answer(connection: aioipc.SocketStream) -> None:
        async with connection:
            async for line in connection.lines():
                await connection.send(f"{worker.generation} {worker.pid} {line}\n".encode())

    async def accept(listener: aioipc.Listener[aioipc.SocketStream]) -> None:
        async for connection in listener:
            group.create_task(answer(connection))

    async with asyncio.TaskGroup() as group, aioipc.Listener(worker.listeners["http"]) as listener:
        accepting = group.create_task(accept(listener))
        await worker.ready()
        await worker.stopping()
        accepting.cancel()  # what was accepted is still answered: the group waits for it


async def ask(port: int) -> str:
    async with await aioipc.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(b"hello\n")
        return await anext(connection.lines())


async def main() -> None:
    spec = aioipc.ChildSpec("web", serve, replicas=2, listeners={"http": "tcp://127.0.0.1:0"})
    async with aioipc.Supervisor(aioipc.SupervisorSpec([spec])) as supervisor:
        (web,) = supervisor.children()
        port = int(web.listeners["http"].rpartition(":")[2])
        generation, pid, _ = (await ask(port)).split()
        print(f"process {pid} of generation {generation} has answered; it is killed")
        os.kill(int(pid), signal.SIGKILL)
        async with asyncio.timeout(10):
            while supervisor.statistics().restarts < 1 or supervisor.children()[0].ready < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        print("two are ready again")
        reloading = asyncio.ensure_future(supervisor.reload())
        answers = 0
        while not reloading.done():
            assert (await ask(port)).endswith("hello")
            answers += 1
        await reloading
        generation, *_ = (await ask(port)).split()
        assert answers
        print(f"reloaded to generation {generation}; every request was answered meanwhile")


aioipc.run(main)
