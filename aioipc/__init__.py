"""Async IPC on asyncio. The public names; see docs/ for what each does.

The floor plan (imports point downward only; tests/test_layers.py holds it):

    9 cli          parse, call the public API, print
      testing      the kit for tests: conformance, plugin, kill points; nothing of ours imports it
    7 pool         Master-Worker task pool
      master       a supervisor as a program: signals, control socket, logs, exit code
    6 supervisor   starts, watches and stops processes; run, graceful_shutdown
    4 objects      what kernel objects there are, who uses them, what limits them
    3 kernel       one kernel object, one file
    2 _loop        how the loop waits
    1 _sys, wire   system calls without a loop; protocols without I/O
    0 exceptions
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exceptions import BrokenResourceError as BrokenResourceError
    from .exceptions import BusyResourceError as BusyResourceError
    from .exceptions import ClosedResourceError as ClosedResourceError
    from .exceptions import ConfigError as ConfigError
    from .exceptions import ControlError as ControlError
    from .exceptions import EndOfStream as EndOfStream
    from .exceptions import IPCError as IPCError
    from .exceptions import LineTooLong as LineTooLong
    from .exceptions import ObjectRemovedError as ObjectRemovedError
    from .exceptions import PipelineError as PipelineError
    from .exceptions import PoolClosed as PoolClosed
    from .exceptions import PoolFull as PoolFull
    from .exceptions import RecordsLostError as RecordsLostError
    from .exceptions import ReloadFailed as ReloadFailed
    from .exceptions import RemoteError as RemoteError
    from .exceptions import RemoteTraceback as RemoteTraceback
    from .exceptions import SerializationError as SerializationError
    from .exceptions import ShutdownTimeout as ShutdownTimeout
    from .exceptions import SupervisorFailed as SupervisorFailed
    from .exceptions import TaskQuarantined as TaskQuarantined
    from .exceptions import TaskTimeout as TaskTimeout
    from .exceptions import TornWriteError as TornWriteError
    from .exceptions import UnsupportedPlatform as UnsupportedPlatform
    from .exceptions import WorkerBootError as WorkerBootError
    from .exceptions import WorkerCrashed as WorkerCrashed
    from .exceptions import WouldBlock as WouldBlock
    from .kernel.datagrams import Datagram as Datagram
    from .kernel.datagrams import DatagramSocket as DatagramSocket
    from .kernel.datagrams import open_datagram_socket as open_datagram_socket
    from .kernel.fifos import FifoAttribute as FifoAttribute
    from .kernel.fifos import FifoReceiveStream as FifoReceiveStream
    from .kernel.fifos import FifoSendStream as FifoSendStream
    from .kernel.fifos import open_fifo_reader as open_fifo_reader
    from .kernel.fifos import open_fifo_writer as open_fifo_writer
    from .kernel.file_lock import FileLock as FileLock
    from .kernel.file_lock import FileLockStatistics as FileLockStatistics
    from .kernel.guarded_memory import GuardedMemory as GuardedMemory
    from .kernel.lines import Lines as Lines
    from .kernel.listeners import Listener as Listener
    from .kernel.listeners import listen_tcp as listen_tcp
    from .kernel.listeners import listen_unix as listen_unix
    from .kernel.log_reader import LogReader as LogReader
    from .kernel.log_reader import LogReaderStatistics as LogReaderStatistics
    from .kernel.log_reader import LogRecord as LogRecord
    from .kernel.mapped_file import MappedFile as MappedFile
    from .kernel.mapped_file import MappedFileStatistics as MappedFileStatistics
    from .kernel.owner_records import OwnerRecord as OwnerRecord
    from .kernel.pipelines import CompletedPipeline as CompletedPipeline
    from .kernel.pipelines import Pipeline as Pipeline
    from .kernel.pipelines import open_pipeline as open_pipeline
    from .kernel.pipelines import run_pipeline as run_pipeline
    from .kernel.pipes import PipeAttribute as PipeAttribute
    from .kernel.pipes import PipeReceiveStatistics as PipeReceiveStatistics
    from .kernel.pipes import PipeReceiveStream as PipeReceiveStream
    from .kernel.pipes import PipeSendStatistics as PipeSendStatistics
    from .kernel.pipes import PipeSendStream as PipeSendStream
    from .kernel.pipes import create_pipe as create_pipe
    from .kernel.posix_queue import PosixMessage as PosixMessage
    from .kernel.posix_queue import PosixMessageQueue as PosixMessageQueue
    from .kernel.posix_queue import PosixQueueStatistics as PosixQueueStatistics
    from .kernel.posix_semaphore import PosixSemaphore as PosixSemaphore
    from .kernel.posix_semaphore import PosixSemaphoreStatistics as PosixSemaphoreStatistics
    from .kernel.record_log import RecordLog as RecordLog
    from .kernel.record_log import RecordLogStatistics as RecordLogStatistics
    from .kernel.semaphores import SysVSemaphoreSet as SysVSemaphoreSet
    from .kernel.semaphores import SysVSemaphoreStatistics as SysVSemaphoreStatistics
    from .kernel.send_signal import send_signal as send_signal
    from .kernel.shared_memory import SharedMemory as SharedMemory
    from .kernel.shared_memory import SharedMemoryStatistics as SharedMemoryStatistics
    from .kernel.signal_runbook import SignalRunbook as SignalRunbook
    from .kernel.signals import SignalInfo as SignalInfo
    from .kernel.signals import SignalReceiver as SignalReceiver
    from .kernel.signals import open_signal_receiver as open_signal_receiver
    from .kernel.sockets import PacketSocket as PacketSocket
    from .kernel.sockets import PeerCredentials as PeerCredentials
    from .kernel.sockets import SocketStatistics as SocketStatistics
    from .kernel.sockets import SocketStream as SocketStream
    from .kernel.sockets import connect_tcp as connect_tcp
    from .kernel.sockets import connect_unix as connect_unix
    from .kernel.sockets import create_socketpair as create_socketpair
    from .kernel.sysv_keys import ftok as ftok
    from .kernel.sysv_queue import SysVMessage as SysVMessage
    from .kernel.sysv_queue import SysVMessageQueue as SysVMessageQueue
    from .kernel.sysv_queue import SysVQueueStatistics as SysVQueueStatistics
    from .kernel.sysv_shared_memory import SysVSharedMemory as SysVSharedMemory
    from .kernel.sysv_shared_memory import SysVSharedMemoryStatistics as SysVSharedMemoryStatistics
    from .master.control_client import ControlClient as ControlClient
    from .master.control_client import find_masters as find_masters
    from .master.supervise import supervise as supervise
    from .objects.inventory import Inventory as Inventory
    from .objects.inventory import inventory as inventory
    from .objects.kernel_object import KernelObject as KernelObject
    from .objects.kernel_object import ObjectKind as ObjectKind
    from .objects.kernel_object import ObjectOpener as ObjectOpener
    from .objects.kernel_object import SemaphoreState as SemaphoreState
    from .objects.limit import Limit as Limit
    from .objects.limits import limits as limits
    from .objects.orphans import OrphanResult as OrphanResult
    from .objects.orphans import remove_orphans as remove_orphans
    from .pool.current_worker import PoolWorker as PoolWorker
    from .pool.current_worker import current_worker as current_worker
    from .pool.executor import PoolExecutor as PoolExecutor
    from .pool.job import Job as Job
    from .pool.mapping import MapResults as MapResults
    from .pool.pool import Pool as Pool
    from .pool.pool_spec import PoolSpec as PoolSpec
    from .pool.sizing import default_workers as default_workers
    from .pool.statistics import PoolStatistics as PoolStatistics
    from .pool.statistics import WorkerStatistics as WorkerStatistics
    from .pool.streaming import StreamResults as StreamResults
    from .supervisor.config import read_config as read_config
    from .supervisor.output_lines import OutputLine as OutputLine
    from .supervisor.service_context import WorkerContext as WorkerContext
    from .supervisor.shutdown import GracefulShutdown as GracefulShutdown
    from .supervisor.shutdown import graceful_shutdown as graceful_shutdown
    from .supervisor.shutdown import run as run
    from .supervisor.spec import ChildSpec as ChildSpec
    from .supervisor.spec import SupervisorSpec as SupervisorSpec
    from .supervisor.supervisor import Supervisor as Supervisor
    from .supervisor.supervisor_statistics import ChildStatistics as ChildStatistics
    from .supervisor.supervisor_statistics import ReplicaStatistics as ReplicaStatistics
    from .supervisor.supervisor_statistics import SupervisorStatistics as SupervisorStatistics

__version__ = "0.1.0"

# Loaded on first use: a worker process imports aioipc too, and must not pay for what only masters need.
_HOMES = {
    "aioipc.exceptions": (
        "BrokenResourceError BusyResourceError ClosedResourceError ConfigError ControlError EndOfStream IPCError "
        "LineTooLong "
        "ObjectRemovedError PipelineError PoolClosed PoolFull RecordsLostError ReloadFailed RemoteError "
        "RemoteTraceback SerializationError ShutdownTimeout SupervisorFailed TaskQuarantined TaskTimeout "
        "TornWriteError UnsupportedPlatform WorkerBootError WorkerCrashed WouldBlock"
    ),
    "aioipc.kernel.datagrams": "Datagram DatagramSocket open_datagram_socket",
    "aioipc.kernel.fifos": "FifoAttribute FifoReceiveStream FifoSendStream open_fifo_reader open_fifo_writer",
    "aioipc.kernel.file_lock": "FileLock FileLockStatistics",
    "aioipc.kernel.guarded_memory": "GuardedMemory",
    "aioipc.kernel.lines": "Lines",
    "aioipc.kernel.listeners": "Listener listen_tcp listen_unix",
    "aioipc.kernel.owner_records": "OwnerRecord",
    "aioipc.kernel.log_reader": "LogReader LogReaderStatistics LogRecord",
    "aioipc.kernel.mapped_file": "MappedFile MappedFileStatistics",
    "aioipc.kernel.record_log": "RecordLog RecordLogStatistics",
    "aioipc.kernel.pipelines": "CompletedPipeline Pipeline open_pipeline run_pipeline",
    "aioipc.kernel.pipes": (
        "PipeAttribute PipeReceiveStatistics PipeReceiveStream PipeSendStatistics PipeSendStream create_pipe"
    ),
    "aioipc.kernel.semaphores": "SysVSemaphoreSet SysVSemaphoreStatistics",
    "aioipc.kernel.posix_queue": "PosixMessage PosixMessageQueue PosixQueueStatistics",
    "aioipc.kernel.posix_semaphore": "PosixSemaphore PosixSemaphoreStatistics",
    "aioipc.kernel.send_signal": "send_signal",
    "aioipc.kernel.shared_memory": "SharedMemory SharedMemoryStatistics",
    "aioipc.kernel.signal_runbook": "SignalRunbook",
    "aioipc.kernel.signals": "SignalInfo SignalReceiver open_signal_receiver",
    "aioipc.kernel.sysv_keys": "ftok",
    "aioipc.kernel.sysv_queue": "SysVMessage SysVMessageQueue SysVQueueStatistics",
    "aioipc.kernel.sockets": (
        "PacketSocket PeerCredentials SocketStatistics SocketStream connect_tcp connect_unix create_socketpair"
    ),
    "aioipc.kernel.sysv_shared_memory": "SysVSharedMemory SysVSharedMemoryStatistics",
    "aioipc.master.control_client": "ControlClient find_masters",
    "aioipc.master.supervise": "supervise",
    "aioipc.objects.inventory": "Inventory inventory",
    "aioipc.objects.kernel_object": "KernelObject ObjectKind ObjectOpener SemaphoreState",
    "aioipc.objects.limit": "Limit",
    "aioipc.objects.limits": "limits",
    "aioipc.objects.orphans": "OrphanResult remove_orphans",
    "aioipc.pool.executor": "PoolExecutor",
    "aioipc.pool.job": "Job",
    "aioipc.pool.mapping": "MapResults",
    "aioipc.supervisor.output_lines": "OutputLine",
    "aioipc.pool.pool": "Pool",
    "aioipc.pool.pool_spec": "PoolSpec",
    "aioipc.pool.current_worker": "PoolWorker current_worker",
    "aioipc.pool.sizing": "default_workers",
    "aioipc.pool.statistics": "PoolStatistics WorkerStatistics",
    "aioipc.pool.streaming": "StreamResults",
    "aioipc.supervisor.config": "read_config",
    "aioipc.supervisor.service_context": "WorkerContext",
    "aioipc.supervisor.shutdown": "GracefulShutdown graceful_shutdown run",
    "aioipc.supervisor.spec": "ChildSpec SupervisorSpec",
    "aioipc.supervisor.supervisor": "Supervisor",
    "aioipc.supervisor.supervisor_statistics": "ChildStatistics ReplicaStatistics SupervisorStatistics",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [  # noqa: RUF022 - sorted as people look things up: words first, errors last
    "ChildSpec",
    "ChildStatistics",
    "CompletedPipeline",
    "ControlClient",
    "Datagram",
    "DatagramSocket",
    "FifoAttribute",
    "FifoReceiveStream",
    "FifoSendStream",
    "FileLock",
    "FileLockStatistics",
    "GracefulShutdown",
    "GuardedMemory",
    "Inventory",
    "Job",
    "KernelObject",
    "Limit",
    "Lines",
    "Listener",
    "LogReader",
    "LogReaderStatistics",
    "LogRecord",
    "MapResults",
    "MappedFile",
    "MappedFileStatistics",
    "ObjectKind",
    "ObjectOpener",
    "OrphanResult",
    "OutputLine",
    "OwnerRecord",
    "PacketSocket",
    "PeerCredentials",
    "PipeAttribute",
    "PipeReceiveStatistics",
    "PipeReceiveStream",
    "PipeSendStatistics",
    "PipeSendStream",
    "Pipeline",
    "Pool",
    "PoolExecutor",
    "PoolSpec",
    "PoolStatistics",
    "PosixMessage",
    "PosixMessageQueue",
    "PosixQueueStatistics",
    "PosixSemaphore",
    "PosixSemaphoreStatistics",
    "ReplicaStatistics",
    "SemaphoreState",
    "RecordLog",
    "RecordLogStatistics",
    "SharedMemory",
    "SharedMemoryStatistics",
    "SignalInfo",
    "SignalReceiver",
    "SignalRunbook",
    "SocketStatistics",
    "SocketStream",
    "PoolWorker",
    "StreamResults",
    "Supervisor",
    "SupervisorSpec",
    "SupervisorStatistics",
    "SysVMessage",
    "SysVMessageQueue",
    "SysVQueueStatistics",
    "SysVSemaphoreSet",
    "SysVSemaphoreStatistics",
    "SysVSharedMemory",
    "SysVSharedMemoryStatistics",
    "WorkerContext",
    "WorkerStatistics",
    "connect_tcp",
    "connect_unix",
    "create_pipe",
    "create_socketpair",
    "current_worker",
    "default_workers",
    "find_masters",
    "ftok",
    "graceful_shutdown",
    "inventory",
    "limits",
    "listen_tcp",
    "listen_unix",
    "open_datagram_socket",
    "open_fifo_reader",
    "open_fifo_writer",
    "open_pipeline",
    "open_signal_receiver",
    "read_config",
    "remove_orphans",
    "run",
    "run_pipeline",
    "send_signal",
    "supervise",
    "BrokenResourceError",
    "BusyResourceError",
    "ClosedResourceError",
    "ConfigError",
    "ControlError",
    "EndOfStream",
    "IPCError",
    "LineTooLong",
    "ObjectRemovedError",
    "PipelineError",
    "PoolClosed",
    "PoolFull",
    "RecordsLostError",
    "ReloadFailed",
    "RemoteError",
    "RemoteTraceback",
    "SerializationError",
    "ShutdownTimeout",
    "SupervisorFailed",
    "TaskQuarantined",
    "TaskTimeout",
    "TornWriteError",
    "UnsupportedPlatform",
    "WorkerBootError",
    "WorkerCrashed",
    "WouldBlock",
]


def __getattr__(name: str) -> object:
    if (module := _HOME_OF.get(name)) is None:
        raise AttributeError(f"module 'aioipc' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
