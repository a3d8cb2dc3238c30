"""A pool's worker process: takes tasks from its data socket, runs them, sends results.

The main thread runs sync tasks with no event loop in the way, so that a task may use ``asyncio.run`` itself. When
an async task comes it enters the loop (worker_async.py) and stays there until a sync task comes. A second
thread (worker_control.py) hears what must be heard while the main thread is busy. No lock and no other thread is
on a task's way: the deques are shared, and every task and result leaves them by one atomic pop.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType, FrameType
from typing import Any

from .._sys import failpoints, libc
from .._sys.send_queue import SendQueue
from ..supervisor.boot import Inheritance, apply_settings
from ..supervisor.control_thread import MasterGone
from ..supervisor.scoreboard import Scoreboard
from ..supervisor.serialization import PLAIN, dump, loads
from ..supervisor.signal_pipe import SignalPipe
from ..supervisor.worker_signals import take_signals
from ..wire import pool_protocol as protocol
from ..wire.framing import Buffer, Frame, FrameDecoder
from ..wire.pool_protocol import ASYNC, CANCELLED, CONTEXT, ERROR, OK, STREAM, TIMED, ResultItem, TaskItem
from .sent_failures import dump_failure
from .worker_frames import is_in_an_import
from .worker_streams import Outflow

FLUSH_AFTER_NS = 1_000_000
"""Results wait for company at most so long; what is done but unsent when a worker is killed counts as started."""

_NONE = dump(None)


EnterLoop = Callable[["Worker", TaskItem, Any], None]
Call = tuple[Callable[..., Any], tuple[Any, ...], "Context | None"]


class Worker:
    """The state of this process, shared by the main thread and the control thread."""

    def __init__(self, inheritance: Inheritance, enter_loop: EnterLoop) -> None:
        self.enter_loop = enter_loop
        self.data: socket.socket = socket.socket(fileno=inheritance.data)
        self.data.setblocking(False)
        self.control: socket.socket = socket.socket(fileno=inheritance.control)
        self.scoreboard: Scoreboard = Scoreboard(inheritance.scoreboard)
        os.close(inheritance.scoreboard)
        self.unsent: SendQueue = SendQueue(self.data)
        self.settings: dict[str, Any] = {}
        self.pending: deque[TaskItem] = deque()
        self.outbox: deque[ResultItem] = deque()
        self.unflushed_since: int = 0
        self.function_pickles: dict[int, bytes] = {}
        self.functions: dict[int, Callable[..., Any]] = {}
        self.variables: tuple[ContextVar[Any], ...] = ()
        """The context variables whose values come with the tasks."""
        self.outflows: dict[int, Outflow] = {}
        """The streams that run here, by task number."""
        self.running: int = 0
        """Number of the sync task whose function the main thread is in; 0 outside of one."""
        self.interruptible: bool = False
        """Whether it is in the function itself: what comes before, imports above all, must not be torn apart."""
        self.cancelled: set[int] = set()
        """Numbers of tasks the master has cancelled and that have not been broken into yet."""
        self.interrupted: int = 0
        """Number of the task that was broken into last."""
        self.spin: float = 0.0
        self.orphaned: bool = False
        """The master is gone: what runs is being ended, and nobody is to be told."""
        self.stopping: bool = False
        self.draining: bool = False
        self.reading: threading.Lock = (
            threading.Lock()
        )  # held while the data socket is read: control may have to help out
        self.signals: SignalPipe = SignalPipe()
        self.notify_loop: Callable[[], None] | None = None
        self.loop: Any = None
        """The event loop, while the main thread is in it."""
        self._decoder = FrameDecoder()
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poller = select.poll()
        self._poller.register(self.data, select.POLLIN)
        self._poller.register(self._wake, select.POLLIN)
        self._sleeper = select.poll()
        self._sleeper.register(self._wake, select.POLLIN)
        self._room = select.poll()
        self._room.register(self.data, select.POLLOUT)

    # -- signals -------------------------------------------------------------------------------------

    def take_signals(self) -> None:
        """Install our dispositions; SIGTERM, blocked since the fork, is let in."""
        self.signals.listen()
        take_signals({signal.SIGTERM: self.on_terminate, signal.SIGINT: self._on_interrupt}, self._leave_to_child)

    def on_terminate(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGTERM by a drain, as the master's stop: service managers signal every process of a service."""
        self.drain()

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        """Break into the sync task that is to be cancelled; any other SIGINT is not meant for a worker."""
        if self.interruptible and self.running in self.cancelled:
            self.break_in(self.running)

    def drain(self) -> None:
        """Start nothing more, finish what runs, and end; callable from any thread and from a signal handler."""
        self.draining = True
        self.signals.wake_up()

    def break_in(self, number: int) -> None:
        """Raise into the sync task that the main thread is in, once."""
        self.cancelled.discard(number)
        self.interrupted = number
        raise KeyboardInterrupt

    def wake_main(self) -> None:
        """Make the main thread look at its flags; callable from any thread and from a signal handler."""
        with contextlib.suppress(BlockingIOError):  # it will wake up anyway
            os.write(self._woken, b"!")

    def _leave_to_child(self) -> None:
        """Close what is the worker's, in a process that a task has forked."""
        self.data.close()
        self.control.close()

    # -- the main thread -----------------------------------------------------------------------------

    def boot(self) -> None:
        """Wait for BOOT and become like the master; raises MasterGone, or OSError where that cannot be."""
        while not self.settings:
            if not self.receive():
                self._poller.poll()
        apply_settings(self.settings)
        libc.set_process_name(self.settings["name"])
        self.spin = self.settings["spin"]
        if self.settings["contextvars"] is not None:
            self.variables = loads(self.settings["contextvars"])
        failpoints.hit("before-ready")

    def serve(self) -> None:
        """Run tasks until the master says stop or somebody says drain; raises MasterGone."""
        pending = self.pending
        while not self.draining:
            try:
                task = pending.popleft()
            except IndexError:
                self.flush()
                if self.stopping:
                    return
                if failpoints.armed:
                    failpoints.hit("idle")
                self.wait()
                continue
            self._run(task)
        failpoints.hit("draining")
        self.flush()

    def wait(self) -> None:
        """Block until there are tasks to run, or the worker is to stop or to drain; raises MasterGone."""
        if self.spin and self._spin():
            return
        self.signals.listen()  # a task may have taken it away
        while not (self.receive() or self.pending or self.stopping or self.draining):
            for fd, _ in self._poller.poll():
                if fd == self._wake:
                    os.read(self._wake, 4096)

    def sleep(self) -> None:
        """Block until `wake_main`, with a task in its function that may be broken into."""
        self.allow_interrupts()
        self._sleeper.poll()
        self.interruptible = False
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def allow_interrupts(self) -> None:
        """From here on the task that runs may be broken into; one that was cancelled before is, now."""
        self.interruptible = True
        if self.cancelled and self.running in self.cancelled:
            self.break_in(self.running)

    def _spin(self) -> bool:
        """Keep asking for a moment: work that comes right away is answered without waking an idle core."""
        until = time.perf_counter() + self.spin
        while time.perf_counter() < until:
            if self.receive():
                return True
        return False

    def receive(self) -> bool:
        """Take in what has arrived; False where no whole frame has. Raises MasterGone at end of file."""
        with self.reading:
            try:
                count = self.data.recv_into(self._decoder.buffer())
            except BlockingIOError:
                return False
            except ConnectionError:
                count = 0
            if not count:
                raise MasterGone
            frames = self._decoder.received(count)
            for frame in frames:
                self._take(frame)
        return bool(frames)

    def _take(self, frame: Frame) -> None:
        if frame.kind == protocol.TASKS:
            functions, tasks = protocol.decode_tasks(frame)
            self.function_pickles.update(functions)
            self.pending.extend(tasks)
            failpoints.hit("task-received")
        elif frame.kind == protocol.STOP:
            self.stopping = True
        elif frame.kind == protocol.BOOT:
            self.settings = protocol.decode_plain(frame)

    def _run(self, task: TaskItem) -> None:
        number, slot, _, flags, _ = task
        if flags & ASYNC:
            self.go_async(task, None)
            return
        outflow = Outflow(self, task) if flags & STREAM else None
        self.note_start(task)
        begin = time.perf_counter_ns()
        result: ResultItem | None = None
        try:
            self.running = number
            function, arguments, context = self.unpack(task, outflow)
            if outflow is not None:
                outflow.function = function
            self.interruptible = True
            if self.cancelled and number in self.cancelled:
                self.break_in(number)
            if context is None:
                context = copy_context()  # what the task sets is not for the next one
            value = context.run(function, *arguments)
            if outflow is not None and not hasattr(value, "__aiter__"):
                self.interruptible = False
                outflow.pump(value, context)
                value = None
            if failpoints.armed and not _is_for_the_loop(value, outflow):
                failpoints.hit("mid-task")
            self.interruptible = False
            self.running = 0
            if not _is_for_the_loop(value, outflow):
                result = (slot, OK, (time.perf_counter_ns() - begin) // 1000, self.dump(value, function))
        except BaseException as error:
            self.interruptible = False
            self.running = 0
            asked = isinstance(error, KeyboardInterrupt) and self.interrupted == number
            if self.orphaned:
                raise MasterGone from None
            if asked and is_in_an_import(error.__traceback__):
                self.drain()  # half-imported packages fail for ever: go, and be replaced
            result = self.failed(task, error, asked, begin)
        if result is None:
            self.go_async(task, value)
        else:
            self.cancelled.discard(number)
            self._finish(result if outflow is None else outflow.end(result))

    def note_start(self, task: TaskItem) -> None:
        """Write into shared memory that a task's function is about to be entered."""
        if task[3] & TIMED:
            self.scoreboard.started_at[task[1]] = time.monotonic_ns()
        self.scoreboard.started[task[1]] = task[0]

    def _finish(self, result: ResultItem) -> None:
        if failpoints.armed:
            failpoints.hit("result-computed")
        outbox = self.outbox
        outbox.append(result)
        now = time.monotonic_ns()
        if len(outbox) == 1:
            self.unflushed_since = now - result[2] * 1000
        if not self.pending or now - self.unflushed_since >= FLUSH_AFTER_NS:
            self.flush()

    def go_async(self, task: TaskItem, begun: Any) -> None:
        """Enter the event loop with this task and stay until a sync task comes or the worker ends.

        ``begun`` is what its function has returned already: a coroutine or an async iterator; ``None`` if it was not
        called yet.
        """
        self.flush()
        self.enter_loop(self, task, begun)

    # -- shared by both ways to run a task -----------------------------------------------------------

    def unpack(self, task: TaskItem, outflow: Outflow | None) -> Call:
        """Return a task's function, arguments and context; what fails here says that it failed on the way in."""
        function_id = task[2]
        try:
            payload, context = self.open_envelopes(task, outflow)
            if not function_id:
                return (*loads(payload), context)
            function = self.functions.get(function_id)
            if function is None:
                function = self.functions[function_id] = loads(self.function_pickles[function_id])
            return function, loads(payload), context
        except Exception as error:
            error.add_note("the worker could not load the task's function or arguments")
            raise

    def open_envelopes(self, task: TaskItem, outflow: Outflow | None) -> tuple[Buffer, Context | None]:
        """Return a task's innermost payload, and the context it is to run in where values came with it."""
        payload = task[4] if outflow is None else outflow.payload
        if not task[3] & CONTEXT:
            return payload, None
        values, payload = loads(payload)
        context = copy_context()
        for index, value in loads(values).items():
            context.run(self.variables[index].set, value)
        return payload, context

    @staticmethod
    def dump(value: object, function: Callable[..., Any]) -> bytes:
        """Return the result's pickle; raises SerializationError, naming the function whose result cannot be sent."""
        if value is None:
            return _NONE
        if type(value) in PLAIN:
            return pickle.dumps(value, 5)
        try:
            return dump(value)
        except Exception as error:
            name = getattr(function, "__qualname__", repr(function))
            from ..exceptions import SerializationError

            text = f"the result of {name}(), of type {type(value).__qualname__}, cannot be sent: {error}"
            raise SerializationError(text) from error

    def failed(self, task: TaskItem, error: BaseException, cancelled: bool, begin: int) -> ResultItem:
        """Return what to send for a task that raised."""
        micros = (time.perf_counter_ns() - begin) // 1000
        if cancelled:
            return (task[1], CANCELLED, micros, b"")
        return (task[1], ERROR, micros, dump_failure(error))

    # -- sending -------------------------------------------------------------------------------------

    def take_results(self) -> list[ResultItem]:
        """Take all results out of the outbox; each goes to exactly one of the threads that ask."""
        results: list[ResultItem] = []
        try:
            while True:
                results.append(self.outbox.popleft())
        except IndexError:
            return results

    def flush(self) -> None:
        """Send all results there are and wait until the socket has taken them; raises MasterGone."""
        if self.outbox and (results := self.take_results()):
            self.send(protocol.encode_results(results))

    def send(self, pieces: list[Buffer]) -> None:
        """Send a frame, waiting for room; raises MasterGone."""
        while not self.post(pieces):
            pieces = []
            self._room.poll()

    def post(self, pieces: list[Buffer]) -> bool:
        """Send what the socket takes of a frame and of what is left of those before; True where that was all."""
        if failpoints.armed and pieces and failpoints.due("mid-write"):
            whole = b"".join(pieces)
            self.data.send(whole[: len(whole) // 2])
            failpoints.act("mid-write")
        self.unsent.push(pieces)
        try:
            return self.unsent.write()
        except ConnectionError as error:
            raise MasterGone from error


def _is_for_the_loop(value: object, outflow: Outflow | None) -> bool:
    """Tell whether a function that was called in the main thread has returned what only the loop can run."""
    return type(value) is CoroutineType or (outflow is not None and hasattr(value, "__aiter__"))
