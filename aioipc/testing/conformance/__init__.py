"""What every byte stream and every channel must do, as test classes that your own test class inherits from.

    from aioipc.testing.conformance import ByteStreamConformance

    @pytest.mark.asyncio
    class TestMyStream(ByteStreamConformance):
        async def make_pair(self):
            return await my_stream_pair()  # (send, receive)

The cases ask for nothing but anyio's interfaces and errors, so they fit streams that aioipc has not made.
They run on asyncio's loops, under pytest-asyncio (mark the class ``asyncio``, or use its auto mode) or under
anyio's plugin (mark it ``anyio``, with the fixture ``anyio_backend`` returning ``"asyncio"``).

A case that does not fit is left out by its name: ``test_empty_items = None``.
"""

from __future__ import annotations

import pytest

_CASES = ("stream_transfer", "stream_ends", "stream_clogged", "stream_cancellation")
_CHANNEL_CASES = ("channel_transfer", "channel_ends", "channel_cancellation")
for _name in _CASES + _CHANNEL_CASES:  # before they are imported
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from .byte_streams import ByteStreamConformance as ByteStreamConformance  # noqa: E402
from .byte_streams import TwoWayByteStreamConformance as TwoWayByteStreamConformance  # noqa: E402
from .channels import ChannelConformance as ChannelConformance  # noqa: E402
