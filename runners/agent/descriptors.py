"""Receive messages that bring descriptors, over a Unix socket; see unix(7), SCM_RIGHTS."""

import _socket

DESCRIPTOR_BYTES = 4


def receive(control, max_bytes, max_descriptors):
    """Receive one message with its descriptors; an empty one at the end."""
    space = _socket.CMSG_SPACE(DESCRIPTOR_BYTES * max_descriptors)
    message, ancillary, _, _ = control.recvmsg(max_bytes, space, _socket.MSG_CMSG_CLOEXEC)
    descriptors = []
    for _, kind, data in ancillary:
        if kind == _socket.SCM_RIGHTS:
            starts = range(0, len(data), DESCRIPTOR_BYTES)
            descriptors += [int.from_bytes(data[at : at + DESCRIPTOR_BYTES], "little") for at in starts]
    return message, descriptors
