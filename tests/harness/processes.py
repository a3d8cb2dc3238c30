"""Processes and waiting, from the testing kit, under one address for the tests."""

from aioipc.testing.processes import Process as Process
from aioipc.testing.processes import children as children
from aioipc.testing.processes import command_line as command_line
from aioipc.testing.processes import descendants as descendants
from aioipc.testing.processes import is_running as is_running
from aioipc.testing.processes import open_descriptors as open_descriptors
from aioipc.testing.processes import process as process
from aioipc.testing.processes import processes as processes
from aioipc.testing.waiting import eventually as eventually
from aioipc.testing.waiting import eventually_async as eventually_async
from aioipc.testing.waiting import wait_ended as wait_ended
from aioipc.testing.waiting import wait_gone as wait_gone
from aioipc.testing.waiting import wait_state as wait_state
