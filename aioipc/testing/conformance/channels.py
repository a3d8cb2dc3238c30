"""The suite for channels, put together; the cases stand in the modules named here."""

from __future__ import annotations

from .channel_cancellation import ChannelCancellation
from .channel_ends import ChannelEnds
from .channel_transfer import ChannelTransfer


class ChannelConformance(ChannelTransfer, ChannelEnds, ChannelCancellation):
    """What holds for an ``anyio.abc.ObjectSendStream`` joined to an ``ObjectReceiveStream``: whole messages.

    Write `make_pair`, better `make_clogged_pair` too; say in `make_item` what your channel carries and in
    `shared` whether several tasks may use one end.
    """
